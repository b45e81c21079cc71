#!/bin/sh
# Write both databases to a folder:
# PGHOST=… PGPORT=… PGUSER=lmadapt PGPASSWORD=… infra/backup.sh FOLDER
# The files of registered versions are in the store, which is copied separately: docs/operations.md.
set -eu
folder=${1:?usage: infra/backup.sh FOLDER}
umask 077
mkdir -p "$folder"
for database in prefect mlflow; do
    pg_dump --format=custom --file="$folder/$database.partial" "$database"
    mv "$folder/$database.partial" "$folder/$database.dump"
done
