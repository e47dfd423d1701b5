"""Messages to people, without the ways on which they travel: those are in the provider."""
