# Airflow's own image with Sealift in it. Build:  docker build -t sealift .
# Connections, keys and passwords come from Airflow's connections or a secrets backend at run time; none is in the image.
FROM apache/airflow:3.3.2-python3.11

# The lock pins every distribution with its hashes, so the image holds exactly what the tests ran on.
COPY --chown=airflow:0 requirements.lock /opt/airflow/
RUN pip install --no-cache-dir --require-hashes --requirement /opt/airflow/requirements.lock

COPY --chown=airflow:0 pyproject.toml build_metadata.py requirements.txt README.md LICENSE /opt/airflow/
COPY --chown=airflow:0 include /opt/airflow/include
COPY --chown=airflow:0 dags /opt/airflow/dags
COPY --chown=airflow:0 plugins /opt/airflow/plugins
# Airflow imports it as it starts: schedulers and workers then fork tasks that have imported everything.
COPY --chown=airflow:0 deploy/airflow/airflow_local_settings.py /opt/airflow/config/

# Being on the path is not enough: Airflow finds connection types by the entry point of an installed distribution. The
# distribution refers to the folder above, so that there is one copy of the code.
RUN pip install --no-cache-dir --no-deps --editable /opt/airflow

# The triggerer imports triggers from here; it does not load DAG folders.
ENV PYTHONPATH=/opt/airflow/include
USER airflow
