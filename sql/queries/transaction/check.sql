-- Fails in a transaction that an error has ended, where COMMIT would silently be a ROLLBACK.
--
-- Returns usable bool
-- Locks   nothing
-- Index   none
select true as usable
