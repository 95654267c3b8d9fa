//! FOREIGN: argv, environment, deadline and status reading of every foreign program, in one table.
