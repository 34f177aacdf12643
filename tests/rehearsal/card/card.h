/* The null card: NVIDIA's libraries as far as PyTorch calls them for latentsweep, over a card that computes nothing.
 *
 * This header is what its parts share. cuda_runtime_api.h declares the functions that they define, so a signature
 * that differs from the real one does not compile.
 *
 *   record.c      what each process has of the card and did on it, in a file that they share
 *   device.c      which card it is, errors, and the driver's view of it
 *   management.c  the management library's view of it
 *   memory.c      allocations, pinned memory, copies
 *   kernels.c     registration and launches of kernels
 *   streams.c     streams, events, waits
 *   graphs.c      what a capture takes and refuses; launches of graphs
 *   libraries.c   cuBLAS and cuFFT
 *   cudnn.c       cuDNN's convolutions
 *   compiler.c    what is compiled as the program runs
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

#define MIB (1L << 20)

/* ---- What is counted, by process ---- */

#define COUNTERS(X) \
    X(launches)       /* kernels, cuBLAS's and cuDNN's and cuFFT's work included; those of a graph are not */ \
    X(products_fp32)  /* matrix products and convolutions, by the type of their factors */ \
    X(products_fp16) \
    X(products_bf16) \
    X(products_other) \
    X(fills)          /* memsets */ \
    X(to_card)        /* copies */ \
    X(from_card) \
    X(within_card) \
    X(pageable)       /* those of to_card and from_card that are not from or to pinned memory */ \
    X(stream_waits)   /* the host waits: what .item(), .cpu() and a copy from pageable memory cost */ \
    X(event_waits) \
    X(device_waits) \
    X(copy_waits)     /* copies that are waits by themselves */ \
    X(allocations) \
    X(frees) \
    X(pinned)         /* allocations of pinned memory */ \
    X(captures)       /* graphs that were captured to their end */ \
    X(refused)        /* calls that a capture forbade */ \
    X(graph_launches) \
    X(graph_kernels)  /* kernels of the graphs that were launched */ \
    X(graph_copies)   /* their copies between host and card */

#define AS_NAME(name) COUNT_##name,
enum counter { COUNTERS(AS_NAME) COUNTER_COUNT };
#undef AS_NAME

void count(enum counter which);
void count_many(enum counter which, long number);

/* ---- record.c: bytes of the card ---- */

/* Takes bytes of the card for this process; false where the processes on it leave too little. */
bool take(long bytes);
void give_back(long bytes);
bool entered(void);
long free_bytes(void);

/* Makes this process's context on the card, as the first call that needs one does; false where it doesn't fit. */
bool enter(void);

/* ---- device.c ---- */

struct settings {
    long bytes, context;
    int major, minor, multiprocessors, driver;
    bool zero_reads;
    const char *name, *record;
};
extern struct settings settings;

cudaError_t failed(cudaError_t error);
int visible_cards(void);

/* ---- memory.c ---- */

bool on_card(const void *pointer);

/* ---- kernels.c ---- */

/* One launch of a kernel that has no address, such as cuBLAS's. */
cudaError_t launch_named(const char *name, cudaStream_t stream);

/* ---- libraries.c ---- */

/* One matrix product or convolution of factors of a type (cudaDataType_t). */
cudaError_t launch_product(const char *name, int type, cudaStream_t stream);

/* ---- streams.c and graphs.c ---- */

struct capture;

struct CUstream_st {
    unsigned flags;
    int priority;
    struct capture *capture;  /* NULL: none */
    long captured, joined;    /* what was captured on this stream, and how much of it another stream waits for */
    bool origin;
    struct CUstream_st *next; /* of the same capture */
};

struct CUevent_st {
    unsigned flags;
    bool recorded;
    double milliseconds;
    struct capture *capture;
    cudaStream_t stream;
    long captured;
};

enum work { KERNEL, COPY, FILL, OTHER, WORK_COUNT };

/* The stream of a handle: 0, 1 and 2 are the default ones. */
cudaStream_t stream_of(cudaStream_t handle);

/* Whether work goes into a graph: *captured says so; an error where the capture is broken. */
cudaError_t enqueue(cudaStream_t stream, enum work work, bool *captured);

/* The host waits, or does what may make it wait: an error during a capture that forbids it, which that breaks. */
cudaError_t unsafe(void);
cudaError_t unsafe_on(cudaStream_t stream);
cudaError_t unsafe_at(cudaEvent_t event);
cudaError_t record_in_capture(cudaStream_t stream, cudaEvent_t event);
cudaError_t wait_in_capture(cudaStream_t stream, cudaEvent_t event, unsigned flags);

void waited(enum counter which);
