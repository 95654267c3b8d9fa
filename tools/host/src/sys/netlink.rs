//! Route netlink sockets (netlink(7), rtnetlink(7)).
