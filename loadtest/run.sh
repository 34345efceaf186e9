#!/usr/bin/env bash
# loadtest/run.sh SCENARIO|PROFILE [URL]
#
# Runs a load test and fails when one of its thresholds fails. SCENARIO is campus, reconnect,
# join-storm, hot-room or chat; SCALE=0.01 says how large. PROFILE is small (every scenario, tiny: what
# CI runs), medium or large (chat alone). Without a URL it starts a Colonnade of its own in a temporary
# folder, on a free port, with rate limits off, and stops it afterwards; COLONNADE_BIN is the program to
# start, by default the debug build, and UP what `colonnade up` is told besides, as --workers 4. With a
# URL, SECRET is that server's registration.shared_secret.
# Results go to target/loadtest/ (OUT). What they mean is in loadtest/README.md.
set -euo pipefail

what=${1:?usage: loadtest/run.sh campus|reconnect|join-storm|hot-room|chat|small|medium|large [URL]}
url=${2:-}
root=$(cd "$(dirname "$0")/.." && pwd)
out=${OUT:-$root/target/loadtest}
program=${COLONNADE_BIN:-$root/target/debug/colonnade}
secret=${SECRET:-}
# Whatever else is set for a Colonnade is not meant for the throw-away one.
unset "${!COLONNADE_@}"

command -v k6 >/dev/null || {
  echo "loadtest: k6 1.0 or newer is needed and not on the path: \`make test-load\` installs it with Go," >&2
  echo "loadtest: or see https://k6.io; nothing was measured" >&2
  exit 1
}
mkdir -p "$out"
out=$(cd "$out" && pwd)

case $what in
  small) scenarios="chat campus reconnect join-storm hot-room" ;;
  medium | large) scenarios=chat ;;
  campus | reconnect | join-storm | hot-room | chat) scenarios=$what ;;
  *) echo "loadtest: there is no scenario $what" >&2; exit 2 ;;
esac
if [[ $what == small ]]; then
  # Tiny, and without conditions on speed: it tells whether scripts and server work, on any machine.
  export SCALE=${SCALE:-0.001} ONLINE=1 P99_MS=off RAMP_S=4 STEADY_S=6 GRACE_S=3 SENDS=5 LOGINS=5
  export DROPS=2 EVERY_S=4 ANNOUNCE_EVERY=10
fi

folder= server= begun= counting=
finish() {
  if [[ -n $counting ]]; then kill "$counting" 2>/dev/null || true; fi
  if [[ -n $server ]] && kill -0 "$server" 2>/dev/null; then kill -KILL "$server"; fi
  if [[ -n $folder ]]; then rm -rf "$folder"; fi
}
trap finish EXIT

# Starts the server and sets url once it answers.
start() {
  [[ -x $program ]] || { echo "loadtest: no program $program; cargo build first" >&2; exit 1; }
  folder=$(mktemp -d)
  secret="load $RANDOM$RANDOM"
  cd "$folder"
  COLONNADE_LISTEN=127.0.0.1:0 COLONNADE_ADMIN__LISTEN=null COLONNADE_ADMIN__GATEWAY=null \
    COLONNADE_RATE_LIMITS__ENABLED=false COLONNADE_REGISTRATION__OPEN=true \
    COLONNADE_REGISTRATION__SHARED_SECRET=$secret COLONNADE_LOGGING__LEVEL=${LOG_LEVEL:-info} \
    "$program" up ${UP:-} >"$out/server.log" 2>&1 &
  server=$!
  cd "$root"
  for _ in $(seq 600); do
    kill -0 "$server" 2>/dev/null || { echo "loadtest: the server ended" >&2; tail "$out/server.log" >&2; exit 1; }
    url=$(sed -nE 's/^Colonnade serves .* at (http:[^, ]+).*/\1/p' "$out/server.log" | head -1)
    if [[ -n $url ]] && curl -sf -o /dev/null "$url/_matrix/client/versions"; then return; fi
    sleep 0.1
  done
  echo "loadtest: the server does not answer" >&2; tail "$out/server.log" >&2; exit 1
}

# The server's processes: itself, and the workers it started.
processes() { echo "$server" $(cat /proc/"$server"/task/*/children); }

# Seconds of CPU the server has used.
used() {
  local process
  for process in $(processes); do cat "/proc/$process/stat"; done |
    awk -v hz="$(getconf CLK_TCK)" '{ sum += $14 + $15 } END { printf "%.1f", sum / hz }'
}

# Stops the server and says what it used; its log must not know of any panic.
stop() {
  local memory process
  memory=$(for process in $(processes); do cat "/proc/$process/status"; done |
    awk '/VmHWM/ { sum += $2 } END { printf "%.0f", sum / 1024 }')
  echo "server: $(used) s of CPU in all, at most $memory MB of memory, preparation included"
  kill -TERM "$server"
  wait "$server" || { echo "loadtest: the server ended badly" >&2; tail "$out/server.log" >&2; return 1; }
  server=
  if grep -n 'panicked at' "$out/server.log" >&2; then return 1; fi
}

# k6 says "Request Failed" for each connection that a scenario cuts on purpose; scripts say what failed.
k6_run() {
  URL=$url OUT=$out WORLD=$world k6 run --no-usage-report --log-format raw "$@" \
    2> >(grep -vx --line-buffered 'Request Failed' >&2)
}

# Makes the world, or what is missing of it, and says how far it is.
seed() {
  local phase file
  [[ -n $secret ]] || { echo "loadtest: SECRET must be the server's registration.shared_secret" >&2; exit 2; }
  mkdir -p "$world"
  for phase in accounts rooms joins; do
    file=$world/$phase.jsonl
    touch "$file"
    keep "$phase"
    while sleep 10; do echo "seeding $phase: $(cat "$file" "$world/$phase.new" 2>/dev/null | wc -l)"; done &
    counting=$!
    if ! PHASE=$phase SECRET=$secret k6_run --quiet --console-output "$world/$phase.new" "$root/loadtest/seed.js"; then
      grep -sv "^{" "$world/$phase.new" | tail -3 >&2 || true
      echo "loadtest: the seeding stopped; say the same again and it goes on" >&2
      exit 1
    fi
    kill "$counting"
    counting=
    keep "$phase"
    echo "seeded $phase: $(wc -l <"$file")"
  done
}

# Adds what a seeding wrote; the broken line of one that was killed is left out.
keep() {
  if [[ -e $world/$1.new ]]; then
    grep -E '^\{.*\}$' "$world/$1.new" >>"$world/$1.jsonl" || true
    rm "$world/$1.new"
  fi
}

if [[ -z $url ]]; then start; world=$folder/world; else world=${WORLD:-$out/world-${SCALE:-0.001}}; fi
verdict=0
for scenario in $scenarios; do
  if [[ $scenario == chat ]]; then
    profile=$what
    if [[ $what == chat ]]; then profile=medium; fi
    PROFILE=$profile k6_run --quiet "$root/loadtest/chat.js" || verdict=$?
    page=chat-$profile.html
  else
    if [[ -z ${seeded:-} ]]; then seed; seeded=yes; fi
    if [[ -n $server ]]; then begun=$(used); fi
    k6_run --quiet "$root/loadtest/$scenario.js" || verdict=$?
    if [[ -n $server ]]; then
      awk -v a="$begun" -v b="$(used)" 'BEGIN { printf "server: %.1f s of CPU\n", b - a }' | tee -a "$out/$scenario.txt"
    fi
    page=$scenario.html
  fi
  echo "picture: $out/$page"
done
if [[ -n $server ]]; then stop || verdict=1; fi
exit "$verdict"
