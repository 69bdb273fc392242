#!/bin/sh
# Make the secrets that compose.yaml hands to the containers, in compose/secrets or the folder that is named.
# What is there stays. The folder keeps others out; the files are readable, since each container has a user of its own.
set -eu
umask 077
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
cd "$folder"

keep() { # keep FILE: standard input becomes the file, unless there is one
    if [ -e "$1" ]; then cat >/dev/null; else cat >"$1.new" && chmod 0444 "$1.new" && mv "$1.new" "$1"; fi
}
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

for name in postgres auth processing notify monitor redis rabbitmq grafana; do
    random | keep "${name}_password"
done
random | keep secret_key
printf '' | keep smtp_password

for name in auth processing notify; do
    printf 'postgresql://%s:%s@postgres:5432/%s' "$name" "$(cat "${name}_password")" "$name" | keep "${name}_database_url"
done
printf 'redis://:%s@redis:6379/0' "$(cat redis_password)" | keep redis_url
printf 'user default on ~* &* +@all >%s\n' "$(cat redis_password)" | keep redis_acl
printf '{"redis://redis:6379": "%s"}\n' "$(cat redis_password)" | keep redis_exporter
printf 'amqp://fiapx:%s@rabbitmq:5672/%%2F' "$(cat rabbitmq_password)" | keep rabbitmq_url
printf 'default_user = fiapx\ndefault_pass = %s\n' "$(cat rabbitmq_password)" | keep rabbitmq_login
