"""Conversion of disk images: from any virtual disk that Sealift reads into a stream of another format.

:mod:`~sealift.images.convert.run` converts; :mod:`~sealift.images.convert.formats` says what into what, and by which
way.
"""
