// Package clusterdns is the DNS server of a node: CoreDNS as a library, with one plugin of ours that answers for names of the cluster
// from a folder of record files (api.DNSRecords), one per service. Berth writes these files; the server notices at once, so that names
// resolve, and change, whether or not anything of Berth runs elsewhere.
//
// Start with corefile.go, which says what the server does with a question; store.go keeps the records, answer.go finds answers,
// watch.go follows the folder.
package clusterdns
