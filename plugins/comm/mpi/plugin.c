/* plugin.c: the component's table: joining, leaving and ending the job. */
#define _GNU_SOURCE /* dladdr */
#include "kumiki/plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm_mpi.h"

km_status mpi_failed(const comm_rank* owner, const char* what, int error) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(error, text, &length);
  return owner->host->fail(owner->host, KM_ERROR_SYSTEM, "comm mpi: rank %d: %s failed: %s", owner->rank, what, text);
}

static km_status ranks_here(const km_host* host, const km_options* options, uint32_t* ranks) {
  (void)host, (void)options;
  *ranks = 1; /* the launcher starts a process for each rank */
  return KM_OK;
}

/* An MPI library may load modules of its own that look for its symbols among the global ones. Where this plugin was loaded
 * with local symbols, its MPI library was too: make it global before MPI_Init. */
static void make_mpi_global(void) {
  int (*function)(int*, char***, int, int*) = MPI_Init_thread;
  void* address = NULL;
  memcpy(&address, &function, sizeof address); /* ISO C has no cast from a function to an object */
  Dl_info library;
  if (dladdr(address, &library) && library.dli_fname) dlopen(library.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
}

static km_status join(comm_rank* self) {
  int before = 0, provided = 0;
  MPI_Initialized(&before);
  if (before) {
    return self->host->fail(self->host, KM_ERROR_USER,
                            "comm mpi: MPI can be joined once in the life of a process; start another process for "
                            "another run");
  }
  make_mpi_global();
  /* One thread makes all calls; Fujitsu MPI has no FUNNELED, so more is asked for than is needed. */
  if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS || provided < MPI_THREAD_FUNNELED) {
    return self->host->fail(self->host, KM_ERROR_SYSTEM,
                            "comm mpi: this MPI library has thread level %d, at least MPI_THREAD_FUNNELED is needed",
                            provided);
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &self->rank);
  MPI_Comm_size(MPI_COMM_WORLD, &self->size);
  MPI_Comm host_comm;
  int error = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host_comm);
  if (error == MPI_SUCCESS) {
    MPI_Comm_rank(host_comm, &self->local_rank);
    MPI_Comm_size(host_comm, &self->local_size);
    self->first_local = self->rank;
    error = MPI_Bcast(&self->first_local, 1, MPI_INT, 0, host_comm); /* whose members lie in the order of ranks */
    MPI_Comm_free(&host_comm);
  }
  if (error == MPI_SUCCESS) error = reductions_create(self);
  if (error == MPI_SUCCESS) error = notes_open(self);
  return error == MPI_SUCCESS ? KM_OK : mpi_failed(self, "joining", error);
}

static km_status open_component(const km_host* host, const km_options* options, void** self) {
  comm_rank* made = calloc(1, sizeof *made);
  if (!made) return host->fail(host, KM_ERROR_SYSTEM, "comm mpi: no memory");
  made->host = host;
  made->check = km_option_i64(options, "check") != 0;
  made->latency = km_option_f64(options, "latency");
  km_status status = join(made);
  if (status != KM_OK) {
    free(made);
    return status;
  }
  *self = made;
  return KM_OK;
}

static void close_component(void* self) {
  comm_rank* rank = self;
  if (!rank) return;
  while (rank->groups) {
    km_group* group = rank->groups;
    rank->groups = group->next;
    group_free(group);
  }
  reductions_free(rank);
  notes_close(rank);
  MPI_Finalize();
  free(rank);
}

static km_status place(void* self, km_rank_info* info) {
  const comm_rank* rank = self;
  info->rank = (uint32_t)rank->rank;
  info->size = (uint32_t)rank->size;
  info->local_rank = (uint32_t)rank->local_rank;
  info->local_size = (uint32_t)rank->local_size;
  if (KM_HAS(km_rank_info, info, host)) info->host = (uint32_t)rank->first_local;
  return KM_OK;
}

static km_status make_group(void* self, const uint32_t* ranks, uint32_t n, km_group** group) {
  return group_create(self, ranks, n, group);
}

static km_status start(void* self, const km_message* message, uint64_t* request) {
  return operation_start(self, message, request);
}

static km_status test(void* self, uint64_t request, uint32_t* done) {
  (void)self;
  return operation_test((operation*)(uintptr_t)request, done);
}

static void abort_job(void* self, int32_t exit_code, const char* text) {
  const comm_rank* rank = self;
  fprintf(stderr, "kumiki: rank %d of %d: %s\n", rank->rank, rank->size, text);
  fflush(stderr);
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  _Exit(exit_code); /* where MPI comes back, this rank at least is ended */
}

static const void* ability(void* self, const char* id) {
  (void)self;
  return strcmp(id, KM_COMM_NOTES) == 0 ? &note_table : NULL;
}

static const km_comm table = {
    .struct_size = sizeof(km_comm),
    .ranks_here = ranks_here,
    .open = open_component,
    .close = close_component,
    .place = place,
    .group = make_group,
    .start = start,
    .test = test,
    .abort = abort_job,
    .ability = ability,
};

static const km_option options[] = {
    {"check", KM_OPTION_BOOL, 0, "false", 0, 0, NULL,
     "compare what the ranks call before each collective, and say which differs (slower)"},
    {"latency", KM_OPTION_F64, 0, "0", 0, 60, NULL,
     "seconds by which each operation ends later: a slow network, for tests"},
};

static const km_component components[] = {
    {"comm", "mpi", KM_COMM_VERSION, 2, &table, options, "ranks as processes, started by a launcher, over any MPI 3.1"},
};

static const km_plugin plugin = {
    .struct_size = sizeof(km_plugin),
    .abi_minor = KM_ABI_MINOR,
    .name = "mpi",
    .version = "0.1",
    .vendor = "Kumiki",
    .licence = "Apache-2.0",
    .components = components,
    .component_count = 1,
    .component_size = sizeof(km_component),
    .option_size = sizeof(km_option),
};
KM_PLUGIN(plugin)
