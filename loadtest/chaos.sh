#!/usr/bin/env bash
# loadtest/chaos.sh VICTIMS URL
#
# Kills and pauses processes by pid while the recording clients of chat.js talk through URL, and fails when a
# message that was accepted is lost, comes twice or out of order. VICTIMS is a file, a line each:
#   NAME;ACTION;COMMAND THAT PRINTS THE PID;COMMAND THAT STARTS IT AGAIN
# (no semicolon within the first three). ACTION is kill (SIGKILL), stop (SIGTERM) or pause (SIGSTOP, and SIGCONT after PAUSE_S=8 seconds). The last part is
# empty for what a supervisor starts again. One line after the other, in random order, every EVERY_S=10
# seconds. Everything is signalled by pid, never by name. LOAD_USERS, LOAD_RATE, LOAD_DURATION as for chat.
set -euo pipefail

victims=${1:?usage: loadtest/chaos.sh VICTIMS URL}
url=${2:?usage: loadtest/chaos.sh VICTIMS URL}
root=$(cd "$(dirname "$0")/.." && pwd)
out=${OUT:-$root/target/loadtest}
every=${EVERY_S:-10}
pause=${PAUSE_S:-8}

command -v k6 >/dev/null || { echo "chaos: k6 1.0 or newer is needed and not on the path: see loadtest/README.md" >&2; exit 1; }
[[ -s $victims ]] || { echo "chaos: no victims in $victims" >&2; exit 2; }
mkdir -p "$out"

driver= paused=
finish() {
  if [[ -n $driver ]]; then kill "$driver" 2>/dev/null || true; wait "$driver" 2>/dev/null || true; fi
}
trap finish EXIT

# One fault after the other, until it is ended; nobody is left paused.
drive() {
  trap 'if [[ -n $paused ]]; then kill -CONT "$paused" 2>/dev/null || true; fi; exit 0' TERM
  while :; do
    while IFS=';' read -r name action find again <&3; do
      sleep "$every" &
      wait $!
      pid=$(bash -c "$find" 2>/dev/null || true)
      if ! [[ $pid =~ ^[0-9]+$ ]]; then echo "chaos: $name is not there"; continue; fi
      echo "chaos: $(date +%T) $action $name ($pid)"
      case $action in
        kill) kill -KILL "$pid" || true ;;
        stop) kill -TERM "$pid" || true ;;
        pause)
          kill -STOP "$pid" || true
          paused=$pid
          sleep "$pause" &
          wait $!
          kill -CONT "$pid" || true
          paused= ;;
        *) echo "chaos: no action $action" >&2 ;;
      esac
      if [[ -n $again ]]; then bash -c "$again" 3<&- || echo "chaos: $name does not start again"; fi
    done 3< <(grep -v '^#' "$victims" | shuf)
  done
}

drive &
driver=$!
verdict=0
CHAOS=yes PROFILE=${PROFILE:-small} URL=$url OUT=$out k6 run --quiet --no-usage-report --log-format raw \
  "$root/loadtest/chat.js" 2>"$out/chaos.log" || verdict=$?
echo "what failed meanwhile and was tried again: $out/chaos.log"
exit "$verdict"
