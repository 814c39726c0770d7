# shellcheck shell=bash
# Processes of a stack, each known by its pid and the instant it started: a pid alone may by now be somebody else's.
# DIR is the stack's folder.

# The kernel's start time of a process, and its state; nothing if there is none.
proc_stat() { # PID -> "STATE STARTTIME"
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    # The name in parentheses may hold anything; the fields are counted after it.
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    echo "$1 ${20}"
}

# The pid of a service that is alive (running or paused).
pid_of() { # SERVICE
    local pid started stat
    { read -r pid started <"$DIR/run/$1.pid"; } 2>/dev/null || return 1
    stat=$(proc_stat "$pid") || return 1
    [[ ${stat#* } == "$started" && ${stat%% *} != [ZX] ]] || return 1
    echo "$pid"
}

# Starts a command in a session of its own, so that Ctrl-C reaches the script and not the server.
launch() { # SERVICE COMMAND...
    local service=$1 pid stat
    shift
    setsid "$@" </dev/null >>"$DIR/log/$service.log" 2>&1 &
    pid=$!
    stat=$(proc_stat "$pid") || stat="? 0"
    echo "$pid ${stat#* }" >"$DIR/run/$service.pid"
}

# Waits until a service is gone, at most so many seconds.
wait_gone() { # SERVICE SECONDS
    local deadline=$((SECONDS + $2))
    while pid_of "$1" >/dev/null; do
        ((SECONDS < deadline)) || return 1
        sleep 0.05
    done
    rm -f "$DIR/run/$1.pid"
}

# Asks a service to stop; a paused one first has to run again to hear it.
ask_to_stop() { # SERVICE
    local pid
    pid=$(pid_of "$1") || return 0
    kill -CONT "$pid" 2>/dev/null || true
    kill -TERM "$pid" 2>/dev/null || true
}

# Makes sure that a service is gone: waits for it, then kills it.
make_gone() { # SERVICE SECONDS
    local pid
    wait_gone "$1" "$2" && return
    if pid=$(pid_of "$1"); then
        say "$1 did not stop in $2 s and is killed"
        kill -KILL "$pid" 2>/dev/null || true
    fi
    wait_gone "$1" 10
}
