//! Facts and reports to Storage. Cannot fail: what went wrong with one device is a Problem in the graph.
