package functions

import (
	"crypto/md5"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"

	"github.com/google/uuid"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"
)

// hashes makes each hash function twice: of a string and of a file's content.
func hashes(dir string) map[string]function.Function {
	base64Of := base64.StdEncoding.EncodeToString
	table := map[string]function.Function{}
	for _, h := range []struct {
		name, file string
		new        func() hash.Hash
		text       func([]byte) string
	}{
		{"md5", "filemd5", md5.New, hex.EncodeToString},
		{"sha1", "filesha1", sha1.New, hex.EncodeToString},
		{"sha256", "filesha256", sha256.New, hex.EncodeToString},
		{"sha512", "filesha512", sha512.New, hex.EncodeToString},
		{"base64sha256", "filebase64sha256", sha256.New, base64Of},
		{"base64sha512", "filebase64sha512", sha512.New, base64Of},
	} {
		sum := func(b []byte) string {
			w := h.new()
			w.Write(b)
			return h.text(w.Sum(nil))
		}
		table[h.name] = stringToString("The hash of a string.", func(s string) (string, error) { return sum([]byte(s)), nil })
		table[h.file] = fileToString("The hash of a file's content.", dir, func(b []byte) (string, error) { return sum(b), nil })
	}
	return table
}

// bcryptHash salts each result anew.
var bcryptHash = function.New(&function.Spec{
	Description: "The bcrypt hash of a string; another one on each evaluation.",
	Params:      []function.Parameter{{Name: "str", Type: cty.String}},
	VarParam:    &function.Parameter{Name: "cost", Type: cty.Number},
	Type:        function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		cost := bcrypt.DefaultCost
		switch len(args) {
		case 1:
		case 2:
			n, err := intArg(args[1], 1)
			if err != nil {
				return cty.NilVal, err
			}
			if n < bcrypt.MinCost || n > bcrypt.MaxCost {
				return cty.NilVal, function.NewArgErrorf(1, "the cost must be from %d to %d", bcrypt.MinCost, bcrypt.MaxCost)
			}
			cost = n
		default:
			return cty.NilVal, errors.New("bcrypt() takes no more than two arguments")
		}
		b, err := bcrypt.GenerateFromPassword([]byte(args[0].AsString()), cost)
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		return cty.StringVal(string(b)), nil
	},
})

// rsaDecrypt never says in an error what it was given.
var rsaDecrypt = function.New(&function.Spec{
	Description: "The text that a Base64 RSA (PKCS #1 v1.5) ciphertext stands for.",
	Params:      []function.Parameter{{Name: "ciphertext", Type: cty.String}, {Name: "privatekey", Type: cty.String}},
	Type:        function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		cipher, err := base64.StdEncoding.DecodeString(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgErrorf(0, "the ciphertext must be base64 encoded")
		}
		raw, err := ssh.ParseRawPrivateKey([]byte(args[1].AsString()))
		if err != nil {
			return cty.NilVal, function.NewArgErrorf(1, "not a private key in PEM or OpenSSH form without a passphrase")
		}
		key, ok := raw.(*rsa.PrivateKey)
		if !ok {
			return cty.NilVal, function.NewArgErrorf(1, "invalid private key type %T: an RSA key is needed", raw)
		}
		//lint:ignore SA1019 Terraform's function is defined in terms of PKCS #1 v1.5
		b, err := rsa.DecryptPKCS1v15(nil, key, cipher)
		if err != nil {
			return cty.NilVal, errors.New("the ciphertext does not belong to this key")
		}
		return cty.StringVal(string(b)), nil
	},
})

var newUUID = function.New(&function.Spec{
	Description: "A random UUID; another one on each evaluation.",
	Type:        function.StaticReturnType(cty.String),
	Impl: func([]cty.Value, cty.Type) (cty.Value, error) {
		u, err := uuid.NewRandom()
		if err != nil {
			return cty.NilVal, fmt.Errorf("random UUID: %w", err)
		}
		return cty.StringVal(u.String()), nil
	},
})

var uuidV5 = function.New(&function.Spec{
	Description: "The UUID of a name in a namespace: dns, url, oid, x500 or a UUID.",
	Params:      []function.Parameter{{Name: "namespace", Type: cty.String}, {Name: "name", Type: cty.String}},
	Type:        function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		named := map[string]uuid.UUID{"dns": uuid.NameSpaceDNS, "url": uuid.NameSpaceURL, "oid": uuid.NameSpaceOID, "x500": uuid.NameSpaceX500}
		ns, ok := named[args[0].AsString()]
		if !ok {
			var err error
			if ns, err = uuid.Parse(args[0].AsString()); err != nil {
				return cty.NilVal, fmt.Errorf("uuidv5() doesn't support namespace %s: %w", args[0].AsString(), err)
			}
		}
		return cty.StringVal(uuid.NewSHA1(ns, []byte(args[1].AsString())).String()), nil
	},
})
