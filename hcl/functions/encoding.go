package functions

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/ianaindex"
)

var base64Encode = stringToString("The Base64 form of a string.", func(s string) (string, error) {
	return base64.StdEncoding.EncodeToString([]byte(s)), nil
})

var base64Decode = stringToString("The string that a Base64 text stands for.", func(s string) (string, error) {
	b, err := decodeBase64(s)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(b) {
		return "", errors.New("the result of decoding the provided string is not valid UTF-8")
	}
	return string(b), nil
})

func decodeBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("failed to decode base64 data: %w", err)
	}
	return b, nil
}

var base64Gzip = stringToString("The string compressed with gzip, in Base64.", func(s string) (string, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, s); err != nil {
		return "", err
	}
	// Terraform flushes before it closes; without this the bytes would differ from its.
	if err := w.Flush(); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
})

// gunzipLimit bounds what base64gunzip unpacks, so that a few bytes cannot fill the memory.
const gunzipLimit = 64 << 20

var base64Gunzip = stringToString("The string that a Base64 text of gzip data stands for.", func(s string) (string, error) {
	packed, err := decodeBase64(s)
	if err != nil {
		return "", err
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", fmt.Errorf("read gzip data: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(r, gunzipLimit+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read gzip data: %w", err)
	case len(b) > gunzipLimit:
		return "", fmt.Errorf("the unpacked data is larger than %d bytes", gunzipLimit)
	case !utf8.Valid(b):
		return "", errors.New("the unpacked data is not valid UTF-8")
	}
	return string(b), nil
})

var urlEncode = stringToString("The string with URL escapes.", func(s string) (string, error) { return url.QueryEscape(s), nil })
var urlDecode = stringToString("The string without URL escapes.", func(s string) (string, error) {
	out, err := url.QueryUnescape(s)
	if err == nil && !utf8.ValidString(out) {
		return "", errors.New("the result of decoding the provided string is not valid UTF-8")
	}
	return out, err
})

var textEncodeBase64 = function.New(&function.Spec{
	Description: "The string in a character encoding, in Base64.",
	Params:      []function.Parameter{{Name: "string", Type: cty.String}, {Name: "encoding", Type: cty.String}},
	Type:        function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		enc, err := characterEncoding(args[1].AsString())
		if err != nil {
			return cty.NilVal, err
		}
		b, err := enc.NewEncoder().Bytes([]byte(args[0].AsString()))
		if err != nil {
			return cty.NilVal, function.NewArgErrorf(0, "the given string contains characters that cannot be represented in %s", args[1].AsString())
		}
		return cty.StringVal(base64.StdEncoding.EncodeToString(b)), nil
	},
})

var textDecodeBase64 = function.New(&function.Spec{
	Description: "The string that a Base64 text stands for in a character encoding.",
	Params:      []function.Parameter{{Name: "source", Type: cty.String}, {Name: "encoding", Type: cty.String}},
	Type:        function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		enc, err := characterEncoding(args[1].AsString())
		if err != nil {
			return cty.NilVal, err
		}
		packed, err := decodeBase64(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		b, err := enc.NewDecoder().Bytes(packed)
		if err != nil || bytes.ContainsRune(b, utf8.RuneError) {
			return cty.NilVal, function.NewArgErrorf(0, "the given string contains symbols that are not defined for %s", args[1].AsString())
		}
		return cty.StringVal(string(b)), nil
	},
})

func characterEncoding(name string) (encoding.Encoding, error) {
	enc, err := ianaindex.IANA.Encoding(name)
	if err != nil || enc == nil {
		return nil, function.NewArgErrorf(1, "%q is not a supported IANA encoding name or alias", name)
	}
	return enc, nil
}
