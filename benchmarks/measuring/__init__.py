"""What is measured, each in a module of its own: processes, calls, the metadata database, chains of transactions."""
