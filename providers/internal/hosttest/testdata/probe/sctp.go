package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"strconv"
	"time"
)

// Packets of SCTP without the kernel's protocol, which not every kernel has: the first one of an association, an INIT.

func sctp(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	to, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	c, err := net.Dial("ip4:132", host)
	if err != nil {
		return err
	}
	defer c.Close()
	p := make([]byte, 32)
	binary.BigEndian.PutUint16(p[0:], 4000)
	binary.BigEndian.PutUint16(p[2:], uint16(to))
	p[12] = 1 // INIT, of 20 bytes
	binary.BigEndian.PutUint16(p[14:], 20)
	binary.BigEndian.PutUint32(p[16:], 1)     // its tag
	binary.BigEndian.PutUint32(p[20:], 65536) // window
	binary.BigEndian.PutUint16(p[24:], 1)     // streams
	binary.BigEndian.PutUint16(p[26:], 1)
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
	_, err = c.Write(p)
	return err
}

// sctpHear prints where the first packet was from and to which port.
func sctpHear() error {
	c, err := net.ListenPacket("ip4:132", "0.0.0.0")
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("listening")
	c.SetDeadline(time.Now().Add(30 * time.Second))
	p := make([]byte, 1500)
	n, from, err := c.ReadFrom(p)
	if err != nil {
		return err
	}
	if n < 12 {
		return fmt.Errorf("%d bytes", n)
	}
	sum := binary.LittleEndian.Uint32(p[8:])
	clear(p[8:12])
	fmt.Println(from, binary.BigEndian.Uint16(p[2:]), sum == crc32.Checksum(p[:n], crc32.MakeTable(crc32.Castagnoli)))
	return nil
}
