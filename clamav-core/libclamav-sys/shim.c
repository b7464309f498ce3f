/*
 * Holds the checked-in bindings against the installed header: a difference in layout, in the value of an
 * enumerator or in the type of a callback stops the build here instead of corrupting memory later.
 */
#include <stddef.h>
#include <stdint.h>

#include <clamav.h>

#define SAME(what, expected) _Static_assert((what) == (expected), "clamav.h differs from bindings.rs: " #what)

#if UINTPTR_MAX == UINT64_MAX
SAME(sizeof(struct cl_cvd), 56);
SAME(offsetof(struct cl_cvd, version), 8);
SAME(offsetof(struct cl_cvd, sigs), 12);
SAME(offsetof(struct cl_cvd, md5), 24);
SAME(offsetof(struct cl_cvd, dsig), 32);
SAME(offsetof(struct cl_cvd, stime), 48);
#endif

SAME(sizeof(struct cl_scan_options), 20);
SAME(offsetof(struct cl_scan_options, general), 0);
SAME(offsetof(struct cl_scan_options, parse), 4);
SAME(offsetof(struct cl_scan_options, heuristic), 8);
SAME(offsetof(struct cl_scan_options, mail), 12);
SAME(offsetof(struct cl_scan_options, dev), 16);
SAME(sizeof(enum cl_engine_field), sizeof(unsigned int));
SAME(sizeof(cl_error_t), sizeof(unsigned int));

SAME(CL_CLEAN, 0);
SAME(CL_VIRUS, 1);
SAME(CL_EMALFDB, 4);
SAME(CL_EACCES, 16);
SAME(CL_ETMPFILE, 17);
SAME(CL_ETMPDIR, 18);
SAME(CL_EMEM, 20);
SAME(CL_ETIMEOUT, 21);
SAME(CL_BREAK, 22);

SAME(CL_ENGINE_MAX_SCANSIZE, 0);
SAME(CL_ENGINE_MAX_FILESIZE, 1);
SAME(CL_ENGINE_MAX_RECURSION, 2);
SAME(CL_ENGINE_MAX_FILES, 3);
SAME(CL_ENGINE_TMPDIR, 13);
SAME(CL_ENGINE_MAX_EMBEDDEDPE, 18);
SAME(CL_ENGINE_MAX_HTMLNORMALIZE, 19);
SAME(CL_ENGINE_MAX_HTMLNOTAGS, 20);
SAME(CL_ENGINE_MAX_SCRIPTNORMALIZE, 21);
SAME(CL_ENGINE_DISABLE_CACHE, 25);
SAME(CL_ENGINE_MAX_SCANTIME, 31);
SAME(CL_ENGINE_PCRE_MAX_FILESIZE, 34);
SAME(CL_MSG_INFO_VERBOSE, 32);
SAME(CL_MSG_WARN, 64);
SAME(CL_MSG_ERROR, 128);

/* Assigning these compiles only while the callbacks have the types that bindings.rs gives them. */
static cl_error_t inspect(int fd, const char *type, const char **ancestors, size_t parent_file_size, const char *file_name,
                          size_t file_size, const char *file_buffer, uint32_t recursion_level, uint32_t layer_attributes,
                          void *context)
{
    (void)fd, (void)type, (void)ancestors, (void)parent_file_size, (void)file_name, (void)file_size, (void)file_buffer;
    (void)recursion_level, (void)layer_attributes, (void)context;
    return CL_CLEAN;
}

static cl_error_t meta(const char *container_type, unsigned long fsize_container, const char *filename,
                       unsigned long fsize_real, int is_encrypted, unsigned int filepos_container, void *context)
{
    (void)container_type, (void)fsize_container, (void)filename, (void)fsize_real, (void)is_encrypted;
    (void)filepos_container, (void)context;
    return CL_CLEAN;
}

static cl_error_t pre_cache(int fd, const char *type, void *context)
{
    (void)fd, (void)type, (void)context;
    return CL_CLEAN;
}

static cl_error_t post_scan(int fd, int result, const char *virname, void *context)
{
    (void)fd, (void)result, (void)virname, (void)context;
    return CL_CLEAN;
}

static void virus_found(int fd, const char *virname, void *context)
{
    (void)fd, (void)virname, (void)context;
}

static void message(enum cl_msg severity, const char *fullmsg, const char *msg, void *context)
{
    (void)severity, (void)fullmsg, (void)msg, (void)context;
}

const clcb_file_inspection clamav_shim_inspect = inspect;
const clcb_meta clamav_shim_meta               = meta;
const clcb_pre_cache clamav_shim_pre_cache     = pre_cache;
const clcb_post_scan clamav_shim_post_scan     = post_scan;
const clcb_virus_found clamav_shim_virus_found = virus_found;
const clcb_msg clamav_shim_message             = message;

uint32_t clamav_shim_header_series(void)
{
    return (uint32_t)((CLAMAV_VERSION_NUM >> 8) & 0xffff);
}
