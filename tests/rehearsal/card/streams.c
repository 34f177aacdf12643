/* Streams, events and waits. A stream has always run out when anyone looks; graphs.c refuses to look in a capture. */
#include <stdlib.h>
#include <time.h>

#include "card.h"

/* Called where the host waits, on the thread that does, with the counter's number. */
void (*null_card_on_wait)(int which);

void waited(enum counter which) {
    count(which);
    if (null_card_on_wait)
        null_card_on_wait(which);
}

/* ---- Streams ---- */

static struct CUstream_st defaults[3];

cudaStream_t stream_of(cudaStream_t handle) {
    uintptr_t number = (uintptr_t)handle;
    return number < 3 ? &defaults[number] : handle;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority) {
    if (!enter())
        return failed(cudaErrorMemoryAllocation);
    *out = calloc(1, sizeof **out);
    (*out)->flags = flags;
    (*out)->priority = priority;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) {
    return cudaStreamCreateWithPriority(out, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *out) {
    return cudaStreamCreateWithFlags(out, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    free(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority) {
    *priority = stream_of(stream)->priority;
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    return unsafe_on(stream);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    cudaError_t error = unsafe_on(stream);
    if (!error)
        waited(COUNT_stream_waits);
    return error;
}

cudaError_t cudaDeviceSynchronize(void) {
    cudaError_t error = unsafe();
    if (error)
        return error;
    if (!enter())
        return failed(cudaErrorMemoryAllocation);
    waited(COUNT_device_waits);
    return cudaSuccess;
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void *data, unsigned flags) {
    cudaError_t error = unsafe_on(stream);
    if (!error)
        callback(stream, cudaSuccess, data);
    return error;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
    bool captured;
    cudaError_t error = enqueue(stream, OTHER, &captured);
    if (!error && !captured)
        function(data);
    return error;
}

/* ---- Events ---- */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e3 + time.tv_nsec * 1e-6;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
    if (!enter())
        return failed(cudaErrorMemoryAllocation);
    *out = calloc(1, sizeof **out);
    (*out)->flags = flags;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out) {
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    cudaError_t error = record_in_capture(stream_of(stream), event);
    if (error)
        return error;
    event->recorded = true;
    event->milliseconds = now();
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    return wait_in_capture(stream_of(stream), event, flags);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    return unsafe_at(event);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    cudaError_t error = unsafe_at(event);
    if (!error)
        waited(COUNT_event_waits);
    return error;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
    if ((from->flags | to->flags) & cudaEventDisableTiming || !from->recorded || !to->recorded)
        return failed(cudaErrorInvalidResourceHandle);
    cudaError_t error = unsafe_at(from->capture ? from : to);
    if (!error)
        *milliseconds = to->milliseconds - from->milliseconds;
    return error;
}
