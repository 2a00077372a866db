// Package dns writes what the DNS server of a node answers from: one file of records per service, in api.DNSDir. The server notices
// by itself (internal/clusterdns). Files are replaced whole, so a reader sees the old content or the new one, and only those that a step names are touched.
package dns
