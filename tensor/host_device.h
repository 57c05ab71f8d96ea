// MULLION_HD marks a function that both the host and a device compute.
#pragma once

#ifdef __CUDACC__
#define MULLION_HD __host__ __device__
#else
#define MULLION_HD
#endif
