-- When the log received the newest record that is counted, and up to when everything that it received is.
ALTER TABLE speed_progress ADD COLUMN IF NOT EXISTS log_time Nullable(DateTime64(3, 'UTC'));

ALTER TABLE speed_progress ADD COLUMN IF NOT EXISTS caught_up_at Nullable(DateTime64(3, 'UTC'));

-- Up to where in event time the partition was before the change: nothing that happened later was counted without it.
ALTER TABLE speed_plans ADD COLUMN IF NOT EXISTS watermark Nullable(DateTime64(6, 'UTC'));

ALTER TABLE speed_plans ADD COLUMN IF NOT EXISTS noted_at Nullable(DateTime64(6, 'UTC'));
