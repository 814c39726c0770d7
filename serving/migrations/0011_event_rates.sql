-- Events to the collectors, where it is not what the catalog says.
ALTER TABLE quotas ADD COLUMN events_per_second_max BIGINT;
