# Airflow's own image with Sealift in it. Build:  docker build -t sealift .
# Connections, keys and passwords come from Airflow's connections or a secrets backend at run time; none is in the image.
FROM apache/airflow:3.3.2-python3.11

# The lock pins every distribution with its hashes, so the image holds exactly what the tests ran on.
COPY --chown=airflow:0 requirements.lock /opt/airflow/sealift/
RUN pip install --no-cache-dir --require-hashes --requirement /opt/airflow/sealift/requirements.lock

# The package itself is installed, not only put on the path: Airflow finds connection types by a distribution's entry point.
COPY --chown=airflow:0 pyproject.toml build_metadata.py requirements.txt README.md LICENSE /opt/airflow/sealift/
COPY --chown=airflow:0 include /opt/airflow/sealift/include
RUN pip install --no-cache-dir --no-deps /opt/airflow/sealift

COPY --chown=airflow:0 dags /opt/airflow/dags
COPY --chown=airflow:0 plugins /opt/airflow/plugins

# Triggers must be importable in the triggerer, which does not load DAG folders.
ENV PYTHONPATH=/opt/airflow/sealift/include
USER airflow
