# shellcheck shell=bash
# How each server of the stack is started. DIR is the stack's folder, HERE this one, CACHE what install has fetched.

start_kafka() { # PORT CONTROLLER_PORT [JAVA_OPTION...]
    local port=$1 controller_port=$2 jars="$CACHE/kafka/lib/*" archive=$CACHE/kafka/classes.jsa
    local data="$DIR/kafka/data" config="$DIR/kafka/server.properties"
    shift 2
    # One node on two cores gains nothing from the optimising compiler or a parallel collector but a slower start.
    local java=("${JAVA_HOME:+$JAVA_HOME/bin/}java" -Xmx512m -Xss512k -XX:+UseSerialGC -XX:TieredStopAtLevel=1
        -Djava.awt.headless=true "-Dlog4j2.configurationFile=$HERE/kafka/log4j2.properties")
    if [[ -n ${KAFKA_HOME:-} ]]; then
        jars="$KAFKA_HOME/libs/*"
    elif [[ -f $archive ]]; then
        java+=("-XX:SharedArchiveFile=$archive")
    fi
    java+=(-cp "$jars")
    mkdir -p "$data"
    sed -e "s|@PORT@|$port|g" -e "s|@CONTROLLER_PORT@|$controller_port|g" -e "s|@DATA@|$data|g" \
        "$HERE/kafka/server.properties.in" >"$config"
    if [[ ! -f $data/meta.properties ]]; then
        local id
        id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')
        # A leading dash would be read as an option.
        "${java[@]}" kafka.tools.StorageTool format --cluster-id "R${id:1}" --config "$config" \
            >>"$DIR/log/kafka.log" 2>&1 || return 1
    fi
    launch kafka "${java[@]}" "$@" kafka.Kafka "$config"
}

start_redis() { # PORT
    mkdir -p "$DIR/redis"
    launch redis redis-server --port "$1" --bind 127.0.0.1 --dir "$DIR/redis" --daemonize no \
        --appendonly no --save '' --maxmemory-policy noeviction
}

start_clickhouse() { # PORT
    mkdir -p "$DIR/clickhouse"
    if command -v clickhouse >/dev/null; then
        sed -e "s|@PORT@|$1|g" -e "s|@DATA@|$DIR/clickhouse|g" \
            "$HERE/clickhouse-config.xml.in" >"$DIR/clickhouse/config.xml"
        launch clickhouse clickhouse server --config-file "$DIR/clickhouse/config.xml"
    else
        launch clickhouse "$CACHE/venv/bin/python" "$HERE/clickhouse_server.py" --port "$1" --path "$DIR/clickhouse"
    fi
}

# What is missing to start a service, if anything.
missing_for() { # SERVICE
    case $1 in
    kafka)
        command -v "${JAVA_HOME:+$JAVA_HOME/bin/}java" >/dev/null || echo "java"
        [[ -n ${KAFKA_HOME:-} || -f $CACHE/kafka/done ]] || echo "the Kafka jars"
        ;;
    redis) command -v redis-server >/dev/null || echo "redis-server" ;;
    clickhouse)
        command -v clickhouse >/dev/null || [[ -f $CACHE/venv/done ]] || echo "the ClickHouse engine"
        ;;
    esac
}
