/* Device memory is host memory that nothing touches but copies; so PyTorch's own caching allocator works over it.
 *
 * It lies in one reserved range of addresses, none of which is given out twice, and pinned memory in another: whether
 * a pointer is on the card, pinned or pageable is then seen from the pointer.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "card.h"

#define GRAIN (2 * MIB) /* what the driver gives memory out in */
#define RANGE (16L << 40)
#define BLOCKS 65536

struct range {
    char *start;
    long used;
    struct block {
        char *at;
        long bytes;
    } blocks[BLOCKS];
    int count;
};

static struct range device, host;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static long rounded(size_t bytes) {
    return (bytes + GRAIN - 1) / GRAIN * GRAIN;
}

static bool within(const struct range *range, const void *pointer) {
    const char *start = __atomic_load_n(&range->start, __ATOMIC_ACQUIRE), *at = pointer;
    return start && at >= start && at < start + RANGE;
}

/* Memory of its own, with a gap after it that no one may touch; NULL where there is none. */
static void *give(struct range *range, long bytes) {
    void *given = NULL;
    pthread_mutex_lock(&mutex);
    if (!range->start) {
        char *start = mmap(NULL, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (start != MAP_FAILED)
            __atomic_store_n(&range->start, start, __ATOMIC_RELEASE);
    }
    int i = 0;
    while (i < range->count && range->blocks[i].at)
        i++;
    if (range->start && i < BLOCKS && range->used + bytes + GRAIN <= RANGE &&
        !mprotect(range->start + range->used, bytes, PROT_READ | PROT_WRITE)) {
        given = range->start + range->used;
        range->blocks[i] = (struct block){given, bytes};
        range->used += bytes + GRAIN;
        if (i == range->count)
            range->count++;
    }
    pthread_mutex_unlock(&mutex);
    return given;
}

/* The bytes that were given; 0 where nothing was. */
static long take_back(struct range *range, void *pointer) {
    long bytes = 0;
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < range->count && !bytes; i++)
        if (range->blocks[i].at == pointer) {
            bytes = range->blocks[i].bytes;
            range->blocks[i].at = NULL;
            mmap(pointer, bytes, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        }
    pthread_mutex_unlock(&mutex);
    return bytes;
}

bool on_card(const void *pointer) {
    return within(&device, pointer);
}

cudaError_t cudaMalloc(void **out, size_t bytes) {
    cudaError_t error = unsafe();
    if (error)
        return error;
    count(COUNT_allocations);
    *out = NULL;
    if (!bytes)
        return cudaSuccess;
    if (!take(rounded(bytes)))
        return failed(cudaErrorMemoryAllocation);
    *out = give(&device, rounded(bytes));
    if (*out)
        return cudaSuccess;
    give_back(rounded(bytes));
    return failed(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void *pointer) {
    cudaError_t error = unsafe();
    if (error)
        return error;
    count(COUNT_frees);
    if (!pointer)
        return enter() ? cudaSuccess : failed(cudaErrorMemoryAllocation);
    long bytes = take_back(&device, pointer);
    if (!bytes)
        return failed(cudaErrorInvalidValue);
    give_back(bytes);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *total) {
    if (!enter())
        return failed(cudaErrorMemoryAllocation);
    *left = free_bytes();
    *total = settings.bytes;
    return cudaSuccess;
}

/* ---- Pinned memory ---- */

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags) {
    cudaError_t error = unsafe();
    if (error)
        return error;
    count(COUNT_pinned);
    *out = give(&host, (bytes + 4095) / 4096 * 4096);
    return *out ? cudaSuccess : failed(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *pointer) {
    cudaError_t error = unsafe();
    if (error)
        return error;
    return !pointer || take_back(&host, pointer) ? cudaSuccess : failed(cudaErrorInvalidValue);
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *pointer) {
    memset(found, 0, sizeof *found);
    bool pinned = within(&host, pointer);
    found->type = on_card(pointer) ? cudaMemoryTypeDevice : pinned ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    found->device = found->type == cudaMemoryTypeUnregistered ? -2 : 0;
    found->devicePointer = found->type == cudaMemoryTypeUnregistered ? NULL : (void *)pointer;
    found->hostPointer = on_card(pointer) ? NULL : (void *)pointer;
    return cudaSuccess;
}

/* ---- Copies and fills ---- */

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    bool written = on_card(to), read = on_card(from);
    bool crosses = written != read;
    bool pageable = crosses && !within(&host, written ? from : to);
    cudaError_t error = pageable ? unsafe_on(stream) : cudaSuccess;
    if (error)
        return error;
    bool captured;
    error = enqueue(stream, crosses ? COPY : OTHER, &captured);
    if (error || captured)
        return error;
    if (written || read)
        count(crosses ? written ? COUNT_to_card : COUNT_from_card : COUNT_within_card);
    if (pageable)
        count(COUNT_pageable);
    if (read && !written && settings.zero_reads)
        memset(to, 0, bytes);
    else
        memmove(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    cudaError_t error = unsafe();
    if (error)
        return error;
    error = cudaMemcpyAsync(to, from, bytes, kind, NULL);
    if (!error)
        waited(COUNT_copy_waits);
    return error;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
    bool captured;
    cudaError_t error = enqueue(stream, FILL, &captured);
    if (error || captured)
        return error;
    count(COUNT_fills);
    memset(to, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemset(void *to, int value, size_t bytes) {
    return cudaMemsetAsync(to, value, bytes, NULL);
}

/* Variables of kernels: none is ever read. */

cudaError_t cudaGetSymbolAddress(void **out, const void *symbol) {
    *out = (void *)symbol;
    return cudaSuccess;
}

cudaError_t cudaMemcpyToSymbol(const void *symbol, const void *from, size_t bytes, size_t offset,
                               enum cudaMemcpyKind kind) {
    return cudaSuccess;
}
