"""The domain: what is selected, planned, captured, exported, proven and recorded. Knows nothing of Airflow.

Sources named in here: SLDN is the Classic API's own documentation (sldn.softlayer.com); IMGDOC and VSDOC are IBM's
documentation of image templates and of classic virtual servers, with the page's name.
"""

from __future__ import annotations
