"""The JSON API behind the page in Airflow: what the bucket says of exports, for people who may see it.

``plugins/sealift_page.py`` registers :func:`sealift.provider.ui.app.make_app`; docs/api.md is its contract.
"""
