// Package frame is how a line of a journal is written: the CRC-32C of its JSON in eight hexadecimal digits, a space, the JSON
// and a newline. It knows nothing of what the JSON says.
package frame

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
)

func table() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// Encode returns the line of a value, with its newline.
func Encode(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	line := make([]byte, 0, len(body)+10)
	line = fmt.Appendf(line, "%08x ", crc32.Checksum(body, table()))
	line = append(line, body...)
	return append(line, '\n'), nil
}

// Decode returns the JSON of a line without its newline, or false when the checksum is not its own.
func Decode(line []byte) ([]byte, bool) {
	sum, body, ok := bytes.Cut(line, []byte{' '})
	if !ok || len(sum) != 8 {
		return nil, false
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	return body, err == nil && uint32(want) == crc32.Checksum(body, table())
}
