/* Kernels: what the constructors of PyTorch's libraries register, and what is launched of it, by name. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "card.h"

#define SLOTS (1 << 16) /* well above the number of kernels of libtorch_cuda */
#define NAMED 64

/* An open-addressed table by the address that stands for a kernel on the host. */
static struct kernel {
    const void *address;
    char *name;
    long launches;
} kernels[SLOTS], named[NAMED];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static struct kernel *kernel_at(const void *address) {
    size_t slot = ((uintptr_t)address >> 4) * 0x9E3779B97F4A7C15u >> 48;
    while (kernels[slot].address && kernels[slot].address != address)
        slot = (slot + 1) % SLOTS;
    return &kernels[slot];
}

static struct kernel *kernel_named(const char *name) {
    pthread_mutex_lock(&mutex);
    int i = 0;
    while (i < NAMED - 1 && named[i].name && strcmp(named[i].name, name))
        i++;
    if (!named[i].name)
        named[i].name = strdup(name);
    pthread_mutex_unlock(&mutex);
    return &named[i];
}

static cudaError_t launch(struct kernel *kernel, cudaStream_t stream) {
    if (!enter())
        return failed(cudaErrorMemoryAllocation);
    bool captured;
    cudaError_t error = enqueue(stream, KERNEL, &captured);
    if (error)
        return error;
    __atomic_fetch_add(&kernel->launches, 1, __ATOMIC_RELAXED);
    if (!captured)
        count(COUNT_launches);
    return cudaSuccess;
}

cudaError_t launch_named(const char *name, cudaStream_t stream) {
    return launch(kernel_named(name), stream);
}

/* Of the stand-ins in Python. */
int null_card_launch(const char *name, cudaStream_t stream) {
    return launch_named(name, stream);
}

void null_card_reset_kernels(void) {
    for (int i = 0; i < SLOTS; i++)
        kernels[i].launches = 0;
    for (int i = 0; i < NAMED; i++)
        named[i].launches = 0;
}

/* Calls back with the name and the launches, captured ones included, of each kernel that ran since the reset. */
void null_card_kernels(void (*tell)(const char *name, long launches)) {
    for (int i = 0; i < SLOTS; i++)
        if (kernels[i].launches)
            tell(kernels[i].name ? kernels[i].name : "a kernel that nobody registered", kernels[i].launches);
    for (int i = 0; i < NAMED; i++)
        if (named[i].launches)
            tell(named[i].name, named[i].launches);
}

/* ---- What nvcc makes the constructors of a library with kernels call (not in any header) ---- */

void **__cudaRegisterFatBinary(void *binary) {
    return calloc(1, sizeof(void *));
}

void __cudaRegisterFatBinaryEnd(void **binary) {
}

void __cudaUnregisterFatBinary(void **binary) {
    free(binary);
}

void __cudaRegisterVar(void **binary, char *host, char *device, const char *name, int external, size_t bytes,
                       int constant, int global) {
}

void __cudaRegisterFunction(void **binary, const char *host, char *device, const char *name, int threads,
                            void *thread_id, void *block_id, void *block, void *grid, int *warp) {
    struct kernel *kernel = kernel_at(host);
    kernel->address = host;
    kernel->name = strdup(name);
}

char __cudaInitModule(void **binary) {
    return 1;
}

/* kernel<<<grid, block, bytes, stream>>>(...) pushes these; the stub that nvcc makes for the kernel pops them. */
static __thread struct configuration {
    dim3 grid, block;
    size_t bytes;
    void *stream;
} pushed[8];
static __thread int depth;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t bytes, void *stream) {
    if (depth == sizeof pushed / sizeof *pushed)
        abort();
    pushed[depth++] = (struct configuration){grid, block, bytes, stream};
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *bytes, void *stream) {
    struct configuration *last = &pushed[--depth];
    *grid = last->grid;
    *block = last->block;
    *bytes = last->bytes;
    *(void **)stream = last->stream;
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *host) {
    *kernel = (cudaKernel_t)host;
    return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t bytes,
                               cudaStream_t stream) {
    return launch(kernel_at(kernel), stream);
}

/* ---- Launches ---- */

cudaError_t cudaLaunchKernel(const void *host, dim3 grid, dim3 block, void **arguments, size_t bytes,
                             cudaStream_t stream) {
    return launch(kernel_at(host), stream);
}

cudaError_t cudaLaunchCooperativeKernel(const void *host, dim3 grid, dim3 block, void **arguments, size_t bytes,
                                        cudaStream_t stream) {
    return launch(kernel_at(host), stream);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *configuration, const void *host, void **arguments) {
    return launch(kernel_at(host), configuration->stream);
}

/* ---- What PyTorch asks of a kernel to choose its grid ---- */

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *found, const void *host) {
    memset(found, 0, sizeof *found);
    found->maxThreadsPerBlock = 1024;
    found->numRegs = 32;
    found->maxDynamicSharedSizeBytes = 48 << 10;
    found->binaryVersion = found->ptxVersion = settings.major * 10 + settings.minor;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *host, enum cudaFuncAttribute attribute, int value) {
    return cudaSuccess;
}

cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t kernel, enum cudaFuncAttribute attribute, int value,
                                            int device) {
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *host, int threads,
                                                                   size_t bytes, unsigned flags) {
    struct cudaDeviceProp card;
    cudaError_t error = cudaGetDeviceProperties(&card, 0);
    if (error)
        return error;
    int fit = card.maxThreadsPerMultiProcessor / (threads > 0 ? threads : 1);
    *blocks = fit < card.maxBlocksPerMultiProcessor ? fit : card.maxBlocksPerMultiProcessor;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *host, int threads, size_t bytes) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, host, threads, bytes, 0);
}
