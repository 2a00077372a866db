package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// The server's side of SOCKS 5 (RFC 1928): CONNECT, without a login. No library for it is maintained.

const (
	socksVersion    = 5
	socksNoLogin    = 0
	socksNoMethod   = 0xff
	socksConnect    = 1
	socksIPv4       = 1
	socksName       = 3
	socksIPv6       = 4
	socksOK         = 0
	socksFailed     = 1
	socksNoHost     = 4
	socksRefused    = 5
	socksNoCommand  = 7
	socksNoAddress  = 8
	maxSocksMethods = 255
)

// socksTarget reads a client's greeting and request, and returns where it wants to go. Errors are answered.
func socksTarget(c io.ReadWriter) (host string, port uint16, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil {
		return "", 0, err
	}
	if head[0] != socksVersion {
		return "", 0, fmt.Errorf("version %d of SOCKS, or something else: want SOCKS 5", head[0])
	}
	methods := make([]byte, int(head[1]), maxSocksMethods)
	if _, err := io.ReadFull(c, methods); err != nil {
		return "", 0, err
	}
	method := byte(socksNoMethod)
	for _, m := range methods {
		if m == socksNoLogin {
			method = socksNoLogin
		}
	}
	if _, err := c.Write([]byte{socksVersion, method}); err != nil {
		return "", 0, err
	}
	if method == socksNoMethod {
		return "", 0, errors.New("the client wants to log in, which is not needed")
	}
	request := make([]byte, 4)
	if _, err := io.ReadFull(c, request); err != nil {
		return "", 0, err
	}
	if request[1] != socksConnect {
		return "", 0, errors.Join(errors.New("only connections can be made, no listening and no UDP"), socksAnswer(c, socksNoCommand))
	}
	size := 0
	switch request[3] {
	case socksIPv4:
		size = net.IPv4len
	case socksIPv6:
		size = net.IPv6len
	case socksName:
		if _, err := io.ReadFull(c, head[:1]); err != nil {
			return "", 0, err
		}
		size = int(head[0])
	default:
		return "", 0, errors.Join(fmt.Errorf("kind of address %d", request[3]), socksAnswer(c, socksNoAddress))
	}
	rest := make([]byte, size+2)
	if _, err := io.ReadFull(c, rest); err != nil {
		return "", 0, err
	}
	host = string(rest[:size])
	if request[3] != socksName {
		host = net.IP(rest[:size]).String()
	}
	return host, binary.BigEndian.Uint16(rest[size:]), nil
}

// socksAnswer tells the client what came of its request.
func socksAnswer(c io.Writer, code byte) error {
	_, err := c.Write([]byte{socksVersion, code, 0, socksIPv4, 0, 0, 0, 0, 0, 0})
	return err
}

// socksServe carries one client's connection to where it wants to go.
func socksServe(ctx context.Context, c net.Conn, dial func(ctx context.Context, host string, port uint16) (net.Conn, byte, error)) error {
	host, port, err := socksTarget(c)
	if err != nil {
		return err
	}
	far, code, err := dial(ctx, host, port)
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", net.JoinHostPort(host, strconv.Itoa(int(port))), err), socksAnswer(c, code))
	}
	defer far.Close()
	if err := socksAnswer(c, socksOK); err != nil {
		return err
	}
	there := make(chan struct{})
	go func() { // ends when the client or the connection does: both are closed at the end
		defer close(there)
		_, _ = io.Copy(far, c) // a client that goes away is no error
		if half, ok := far.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		} else {
			_ = far.Close() // nobody is left to answer
		}
	}()
	_, err = io.Copy(c, far)
	c.Close()
	<-there
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}
