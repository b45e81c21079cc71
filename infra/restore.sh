#!/bin/sh
# Restore both databases as infra/backup.sh wrote them; stop the Prefect and MLflow servers first.
set -eu
folder=${1:?usage: infra/restore.sh FOLDER}
for database in prefect mlflow; do # both must be readable before one is dropped
    pg_restore --list "$folder/$database.dump" > /dev/null
done
for database in prefect mlflow; do
    dropdb --if-exists "$database"
    createdb "$database"
    pg_restore --exit-on-error --no-owner --dbname="$database" "$folder/$database.dump"
done
