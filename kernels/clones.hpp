// Functions that the compiler makes for three instruction sets, of which the loader picks one. The
// bits do not depend on which.
#pragma once

#if defined(__x86_64__) && defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
  #define HALFULP_KERNEL_CLONES \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
  #define HALFULP_KERNEL_CLONES
#endif
