#!/bin/sh
# The main job, once: make a video, start a server, upload, wait, download, look inside, stop. Nothing stays behind.
set -eu

work=$(mktemp -d)
server=
finish() {
    status=$?
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    if [ "$status" -ne 0 ] && [ -f "$work/server.log" ]; then
        echo "demo: failed; the server said:" >&2
        tail -n 20 "$work/server.log" >&2
    fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n$ %s\n' "$*"; }

export FIAPX_HOME="$work/data" FIAPX_CONFIG="$work/profile.json" NO_COLOR=1
unset FIAPX_TOKEN FIAPX_SERVER
cd "$work"

say "ffmpeg -f lavfi -i testsrc2 ... clip.mp4"
ffmpeg=$(python -c 'from fiapx.media.ffmpeg import find_ffmpeg; print(find_ffmpeg().path)')
"$ffmpeg" -v error -f lavfi -i testsrc2=size=640x360:rate=30:duration=10 -c:v mpeg4 -q:v 4 clip.mp4
ls -l clip.mp4 | awk '{print $5 " bytes  " $NF}'

say "fiapx up &"
fiapx up --port 0 --json >server.json 2>server.log &
server=$!
for _ in $(seq 300); do
    [ -s server.json ] && break
    kill -0 "$server" 2>/dev/null || { server=; exit 1; }
    sleep 0.1
done
FIAPX_SERVER=$(python -c 'import json; print(json.load(open("server.json"))["url"])')
export FIAPX_SERVER
echo "ready at $FIAPX_SERVER"

password=$(python -c 'import secrets; print(secrets.token_urlsafe(12))')
say "fiapx register demo@example.com; fiapx login demo@example.com"
echo "$password" | fiapx register demo@example.com --password-stdin
echo "$password" | fiapx login demo@example.com --password-stdin

say "fiapx upload clip.mp4 --fps 2 --wait -o frames.zip"
fiapx upload clip.mp4 --fps 2 --wait -o frames.zip

say "fiapx jobs"
fiapx jobs

say "python -m zipfile -l frames.zip"
python -m zipfile -l frames.zip
python -m zipfile -t frames.zip

say "kill %1    # the server finishes what it is doing, and stops"
kill "$server"
wait "$server"
server=
echo "stopped"
