#!/usr/bin/env bash
# Runs a program of tests, and ends it when it takes longer than $DEADLINE seconds (900): a test that hangs is then a
# failure which names itself, and not a build that somebody ends hours later without a word.
#
#   scripts/deadline.sh PROGRAM [ARGUMENTS]
set -u

# The program takes this process, so that signals and its parent are what they were without us; the watch is nobody's
# child, and goes a second after it.
watch() {
    timeout "${DEADLINE:-900}" tail --pid="$2" -f /dev/null
    [ $? = 124 ] || return
    echo "deadline: $1 still runs after ${DEADLINE:-900} s"
    if command -v gdb >/dev/null; then timeout 60 gdb --batch -p "$2" -ex "thread apply all backtrace 16" 2>&1; fi
    echo "deadline: what takes time, and then its threads, each named as the test that it runs:"
    ps -eo pid,ppid,stat,pcpu,time,args --sort=-pcpu --columns 150 | head -n 8
    ps -L -p "$2" -o tid,stat,pcpu,time,wchan:20,comm
    kill -ABRT "$2"
}

(watch "$1" $$ </dev/null >&2 &)
exec "$@"
