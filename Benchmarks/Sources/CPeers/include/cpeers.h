#ifndef CPEERS_H
#define CPEERS_H

// What other people's libraries make of the same tables and dumps, where they are installed.

#include <stddef.h>
#include <stdint.h>

// A four-level table, walked by libkdumpfile's addrxlat_walk.
typedef struct addrxlat_peer addrxlat_peer;

// memory holds physical addresses from 0; root is the table's. NULL where this was built without
// libkdumpfile's header, or where its library is not there or refuses to begin.
addrxlat_peer *addrxlat_peer_make(const uint8_t *memory, size_t byte_count, uint64_t root);
void addrxlat_peer_free(addrxlat_peer *peer);

// One walk for each address; all ones is the answer of a walk that fails.
void addrxlat_peer_walk(const addrxlat_peer *peer, const uint64_t *addresses, uint64_t *answers,
                        size_t count);

// A dump, read by libkdumpfile.
typedef struct kdumpfile_peer kdumpfile_peer;

// NULL where this was built without libkdumpfile's header, where its library is not there, or where it does not
// open the file.
kdumpfile_peer *kdumpfile_peer_make(const char *path);
void kdumpfile_peer_free(kdumpfile_peer *peer);
// How many bytes from a physical address on it gives.
size_t kdumpfile_peer_read(kdumpfile_peer *peer, uint64_t address, void *bytes, size_t count);

// libiommu, which `make library` makes: the project itself, as C's programs have it.
typedef struct library_peer library_peer;

// memory holds physical addresses from 0; root is a VT-d root table's. NULL where there is no library at the path,
// or it refuses something. Never freed.
library_peer *library_peer_make(const char *path, void *memory, size_t byte_count, uint64_t root,
                                uint16_t requester);
// One call for each address, and one for all.
void library_peer_calls(const library_peer *peer, const uint64_t *addresses, uint64_t *answers, size_t count);
void library_peer_batch(const library_peer *peer, const uint64_t *addresses, uint64_t *answers, size_t count);

#endif
