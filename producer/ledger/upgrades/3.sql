-- Nobody looks for holds by task or lineage any more, nor for open requests by attempt: the one writer has them in memory.
DROP INDEX holds_task;
DROP INDEX holds_root;
DROP INDEX reservations_attempt;
