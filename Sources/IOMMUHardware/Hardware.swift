// Units with registers and caches.
