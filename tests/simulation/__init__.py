"""A simulation of several processes and their PostgreSQL in one thread, in virtual time, decided by a seed.

The engine is the real one, from `Durable` down to the statements that it sends; what is made up is what it stands on: the event
loop (`loop`), the network and asyncpg (`network`), and the tables with what each statement does to them (`store`). So orders
are seen that a real machine shows once a year, thousands of them in a minute, and each again from its seed.

What it cannot show is what PostgreSQL itself does: locks, snapshots and plans. The storms on real servers are for that.
"""
