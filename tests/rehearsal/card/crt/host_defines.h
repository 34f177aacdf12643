/* The words that NVIDIA's headers decorate functions and types with, for a compiler that isn't nvcc. */
#pragma once

#define CUDARTAPI
#define __host__
#define __device__
#define __cudart_builtin__
#define __device_builtin__
#define __device_builtin_texture_type__
#define __device_builtin_surface_type__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __builtin_align__(bytes) __align__(bytes)
