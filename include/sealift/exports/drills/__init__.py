"""Restore drills: exports are brought out of the bucket in turn, proven, and the time that it took is kept."""
