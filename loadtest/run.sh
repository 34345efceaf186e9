#!/usr/bin/env bash
# loadtest/run.sh PROFILE [URL]
#
# Runs the chat load test (profiles: small, medium, large) and fails when one of its thresholds
# fails. Without a URL it starts a Colonnade of its own in a temporary folder, on a free port, with
# rate limits off, and stops it afterwards; COLONNADE_BIN is the program to start, by default the
# debug build. Results go to target/loadtest/ (OUT). What they mean is in loadtest/README.md.
set -euo pipefail

profile=${1:?usage: loadtest/run.sh small|medium|large [URL]}
url=${2:-}
root=$(cd "$(dirname "$0")/.." && pwd)
out=${OUT:-$root/target/loadtest}
program=${COLONNADE_BIN:-$root/target/debug/colonnade}
# Whatever else is set for a Colonnade is not meant for the throw-away one.
unset "${!COLONNADE_@}"

command -v k6 >/dev/null || { echo "loadtest: there is no k6; see loadtest/README.md" >&2; exit 1; }
mkdir -p "$out"

folder= server=
finish() {
  if [[ -n $server ]] && kill -0 "$server" 2>/dev/null; then kill -KILL "$server"; fi
  if [[ -n $folder ]]; then rm -rf "$folder"; fi
}
trap finish EXIT

# Starts the server and sets url once it answers.
start() {
  [[ -x $program ]] || { echo "loadtest: no program $program; cargo build first" >&2; exit 1; }
  folder=$(mktemp -d)
  cd "$folder"
  COLONNADE_LISTEN=127.0.0.1:0 COLONNADE_ADMIN__LISTEN=null COLONNADE_ADMIN__GATEWAY=null \
    COLONNADE_RATE_LIMITS__ENABLED=false COLONNADE_REGISTRATION__OPEN=true \
    "$program" >"$out/server.log" 2>&1 &
  server=$!
  cd "$root"
  for _ in $(seq 300); do
    kill -0 "$server" 2>/dev/null || { echo "loadtest: the server ended" >&2; tail "$out/server.log" >&2; exit 1; }
    url=$(sed -nE 's/^Colonnade serves .* at (http:[^,]+).*/\1/p' "$out/server.log" | head -1)
    if [[ -n $url ]] && curl -sf -o /dev/null "$url/_matrix/client/versions"; then return; fi
    sleep 0.1
  done
  echo "loadtest: the server does not answer" >&2; tail "$out/server.log" >&2; exit 1
}

# Stops the server and says what it used; its log must not know of any panic.
stop() {
  local ticks memory
  ticks=$(awk '{ print $14 + $15 }' "/proc/$server/stat")
  memory=$(awk '/VmHWM/ { print $2 }' "/proc/$server/status")
  awk -v t="$ticks" -v hz="$(getconf CLK_TCK)" -v kb="$memory" 'BEGIN {
    printf "server: %.1f s of CPU, at most %.0f MB of memory, preparation included\n", t / hz, kb / 1024
  }' | tee -a "$out/chat-$profile.txt"
  kill -TERM "$server"
  wait "$server" || { echo "loadtest: the server ended badly" >&2; tail "$out/server.log" >&2; return 1; }
  server=
  if grep -n 'panicked at' "$out/server.log" >&2; then return 1; fi
}

if [[ -z $url ]]; then start; fi
verdict=0
PROFILE=$profile URL=$url OUT=$out k6 run --quiet --no-usage-report "$root/loadtest/chat.js" || verdict=$?
if [[ -n $server ]]; then stop || verdict=1; fi
echo "picture: $out/chat-$profile.html"
exit "$verdict"
