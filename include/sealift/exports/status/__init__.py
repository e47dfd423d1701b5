"""What the bucket says of all exports: read models that the command line and the page in Airflow both show.

* :mod:`.rows`: one server in one slot; :mod:`.index`: a slot's rows as one object in the bucket.
* :mod:`.books`: keeps a place's rows in memory, and looks what has changed.
* :mod:`.coverage`, :mod:`.server`, :mod:`.planned`, :mod:`.charts`: what is shown.
"""
