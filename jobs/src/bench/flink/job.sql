-- What the speed layer's line with one rollup does, without its recognising of repeated deliveries.
CREATE TABLE events (
    tenant STRING,
    name STRING,
    occurred_at BIGINT,
    `user` STRING,
    money ROW<minor BIGINT>,
    happened AS TO_TIMESTAMP_LTZ(occurred_at / 1000, 3),
    -- The latest of twenty million exponential delays of 20 s is some six minutes; nothing may be late here.
    WATERMARK FOR happened AS happened - INTERVAL '15' MINUTE
) WITH (
    'connector' = 'kafka',
    'topic' = '@TOPIC@',
    'properties.bootstrap.servers' = '@BROKERS@',
    'scan.startup.mode' = 'earliest-offset',
    'scan.bounded.mode' = 'latest-offset',
    'format' = 'json',
    'json.ignore-parse-errors' = 'false'
);

CREATE TABLE cells (
    window_start TIMESTAMP_LTZ(3),
    tenant STRING,
    name STRING,
    events BIGINT,
    minor BIGINT,
    users BIGINT
) WITH ('connector' = '@SINK@');

INSERT INTO cells
SELECT CAST(window_start AS TIMESTAMP_LTZ(3)), tenant, name, COUNT(*), SUM(money.minor), COUNT(DISTINCT `user`)
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(happened), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, tenant, name;
