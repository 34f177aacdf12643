/* Which card it is, its errors, and what the driver and the management library say of it. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include "card.h"

struct settings settings;

/* ---- Settings: rehearsal/card.py sets these environment variables ---- */

static const char *setting(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

__attribute__((constructor)) static void read_settings(void) {
    settings.bytes = (long)(atof(setting("NULL_CARD_GIB", "6")) * 1024 * MIB);
    settings.context = 400 * MIB;
    settings.multiprocessors = atoi(setting("NULL_CARD_MULTIPROCESSORS", "30"));
    settings.driver = atoi(setting("NULL_CARD_DRIVER", "13000"));
    settings.zero_reads = strcmp(setting("NULL_CARD_READS", "zero"), "memory");
    settings.name = setting("NULL_CARD_NAME", "NVIDIA Null Card");
    settings.record = setting("NULL_CARD_RECORD", NULL);
    if (sscanf(setting("NULL_CARD_CAPABILITY", "8.6"), "%d.%d", &settings.major, &settings.minor) != 2) {
        fprintf(stderr, "null card: NULL_CARD_CAPABILITY must be like 8.6\n");
        abort();
    }
}

/* ---- Errors ---- */

static __thread cudaError_t last;

cudaError_t failed(cudaError_t error) {
    return last = error;
}

cudaError_t cudaGetLastError(void) {
    cudaError_t error = last;
    last = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void) {
    return last;
}

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge",
     "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
};
#define ERRORS (sizeof errors / sizeof *errors)

const char *cudaGetErrorString(cudaError_t error) {
    for (size_t i = 0; i < ERRORS; i++)
        if (errors[i].error == error)
            return errors[i].text;
    return "not a part of the null card";
}

const char *cudaGetErrorName(cudaError_t error) {
    for (size_t i = 0; i < ERRORS; i++)
        if (errors[i].error == error)
            return errors[i].name;
    return "cudaErrorUnknown";
}

/* What library.py generates for each function that no file here defines; it says its name once. */
int null_card_lacks(const char *name, int *said) {
    if (!*said && strncmp(name, "cupti", 5)) /* the profiler asks at import */
        fprintf(stderr, "null card: %s is not a part of it\n", name);
    *said = 1;
    return cudaErrorUnknown;
}

/* ---- The device ---- */

int visible_cards(void) {
    /* Ray hides the card so from a task that asked for none. The first entry that names no card ends the list. */
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (!visible)
        return 1;
    char *end;
    long index = strtol(visible, &end, 10);
    return end != visible && index == 0;
}

cudaError_t cudaGetDeviceCount(int *number) {
    *number = 0;
    if (settings.driver / 1000 < CUDART_VERSION / 1000)
        return failed(cudaErrorInsufficientDriver);
    *number = visible_cards();
    return *number ? cudaSuccess : failed(cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= visible_cards())
        return failed(cudaErrorInvalidDevice);
    return enter() ? cudaSuccess : failed(cudaErrorMemoryAllocation);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *card, int device) {
    if (device < 0 || device >= visible_cards())
        return failed(cudaErrorInvalidDevice);
    bool turing = settings.major == 7;
    memset(card, 0, sizeof *card);
    snprintf(card->name, sizeof card->name, "%s", settings.name);
    card->major = settings.major;
    card->minor = settings.minor;
    card->totalGlobalMem = settings.bytes;
    card->multiProcessorCount = settings.multiprocessors;
    card->pciBusID = 1;

    card->warpSize = 32;
    card->maxThreadsPerBlock = card->maxThreadsDim[0] = card->maxThreadsDim[1] = 1024;
    card->maxThreadsDim[2] = 64;
    card->maxGridSize[0] = 0x7fffffff;
    card->maxGridSize[1] = card->maxGridSize[2] = 65535;
    card->maxThreadsPerMultiProcessor = turing ? 1024 : 1536;
    card->maxBlocksPerMultiProcessor = 16;
    card->regsPerBlock = card->regsPerMultiprocessor = 65536;

    card->sharedMemPerBlock = 48 << 10;
    card->sharedMemPerBlockOptin = (turing ? 64 : 99) << 10;
    card->sharedMemPerMultiprocessor = (turing ? 64 : 100) << 10;
    card->totalConstMem = 64 << 10;
    card->l2CacheSize = 3 << 20;
    card->memPitch = 0x7fffffff;
    card->memoryBusWidth = 192;
    card->textureAlignment = 512;
    card->managedMemory = card->concurrentKernels = card->cooperativeLaunch = card->unifiedAddressing = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    struct cudaDeviceProp card;
    cudaError_t error = cudaGetDeviceProperties(&card, device);
    if (error)
        return error;
    switch (attribute) {
#define HAS(name, field) \
    case cudaDevAttr##name: \
        *value = card.field; \
        break;
        HAS(ComputeCapabilityMajor, major)
        HAS(ComputeCapabilityMinor, minor)
        HAS(WarpSize, warpSize)
        HAS(MultiProcessorCount, multiProcessorCount)
        HAS(MaxThreadsPerBlock, maxThreadsPerBlock)
        HAS(MaxThreadsPerMultiProcessor, maxThreadsPerMultiProcessor)
        HAS(MaxSharedMemoryPerBlock, sharedMemPerBlock)
        HAS(MaxSharedMemoryPerBlockOptin, sharedMemPerBlockOptin)
        HAS(MaxSharedMemoryPerMultiprocessor, sharedMemPerMultiprocessor)
        HAS(CooperativeLaunch, cooperativeLaunch)
        HAS(UnifiedAddressing, unifiedAddressing)
#undef HAS
    default: /* what it lacks: memory pools, multicast, peers, ... */
        *value = 0;
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) {
    *can = 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

#define BUS "00000000:01:00.0"

cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device) {
    snprintf(text, size, "%s", BUS);
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = settings.driver;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

/* ---- The driver ---- */

static CUresult lacks(void) {
    return CUDA_ERROR_NOT_SUPPORTED;
}

/* PyTorch asks for all that it might ever call; what isn't here fails when it is called. */
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version,
                                             unsigned long long flags, enum cudaDriverEntryPointQueryResult *found) {
    *function = dlsym(RTLD_DEFAULT, name);
    if (!*function)
        *function = lacks;
    if (found)
        *found = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}

CUresult cuInit(unsigned flags) {
    return visible_cards() ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

CUresult cuDeviceGet(CUdevice *device, int index) {
    *device = index;
    return index < visible_cards() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = enter() ? (CUcontext)&settings : NULL;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    *flags = 0;
    *active = entered();
    return CUDA_SUCCESS;
}
