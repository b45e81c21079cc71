"""The same stages as Prefect flows: local runs, deployments, schedules."""
