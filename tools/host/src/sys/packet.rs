//! Packet sockets for DHCP before an address is there (packet(7)).
