#include "core/run/engine.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "core/base/error.h"
#include "core/base/log.h"

namespace kumiki {
namespace {

// Median of three runs of a kernel on buffers of its own, in seconds. Fills inputs with small numbers, so that no kernel is
// judged by its speed on zeros.
double time_kernel(KernelChain& chain, const OpRequest& request, const KernelChain::Choice& choice) {
  Device& device = chain.device();
  const km_op& op = request.op();
  struct Buffer {
    km_address address;
    uint64_t bytes;
  };
  std::vector<Buffer> buffers;
  std::vector<km_address> addresses;
  const auto make = [&](uint64_t bytes) {
    buffers.push_back({device.allocate(bytes), bytes});
    return buffers.back().address;
  };
  const km_kernels& table = chain.members()[choice.member].table;
  void* self = chain.members()[choice.member].self;
  km_kernel* kernel = chain.create(choice, request);
  for (uint32_t i = 0; i < op.n_inputs; ++i) {
    const uint64_t bytes = km_bytes(&op.inputs[i]);
    km_address address = make(bytes);
    std::vector<std::byte> fill(bytes);
    if (op.inputs[i].dtype == KM_F32)
      for (uint64_t e = 0; e < bytes / 4; ++e)
        reinterpret_cast<float*>(fill.data())[e] = static_cast<float>(static_cast<int>(e % 37) - 18) * 0.01f;
    if (op.inputs[i].dtype == KM_BF16)
      for (uint64_t e = 0; e < bytes / 2; ++e)
        reinterpret_cast<uint16_t*>(fill.data())[e] = static_cast<uint16_t>(0x3c00 + e % 37);
    device.upload(address, fill.data(), bytes);
    if (choice.support.prepack_bytes[i]) {
      const km_address packed = make(choice.support.prepack_bytes[i]);
      table.pack(self, kernel, i, address, packed, device.queue());
      address = packed;
    }
    addresses.push_back(address);
  }
  for (uint32_t o = 0; o < op.n_outputs; ++o) addresses.push_back(make(km_bytes(&op.outputs[o])));
  const km_address workspace = make(choice.support.workspace_bytes);
  double seconds[4] = {};
  for (double& s : seconds) {
    const auto begin = std::chrono::steady_clock::now();
    const km_status status = table.run(self, kernel, addresses.data(), workspace, device.queue());
    device.wait();
    s = status == KM_OK ? std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() : 1e30;
  }
  for (const Buffer& b : buffers) device.release(b.address, b.bytes);
  std::sort(seconds + 1, seconds + 4); // the first run warms up
  return seconds[2];
}

} // namespace

Engine::Engine(Registry& registry, const Config& config, const Options& options)
    : registry_(registry), config_(config), communicator_(options.communicator) {
  km_rank_info place{};
  place.rank = static_cast<uint32_t>(options.rank);
  place.size = static_cast<uint32_t>(options.ranks);
  place.local_size = 1;
  if (communicator_) place = communicator_->place();
  pool_ =
      std::make_unique<Pool>(static_cast<uint32_t>(config.run().threads), true,
                             options.cores.empty() ? cores_of_rank(place.local_rank, place.local_size) : options.cores);
  host_.set_context(pool_.get());
  host_.set_service(KM_PARALLEL_SERVICE, Pool::service());
  host_.set_service(KM_GRAPH_SERVICE, graph_service());

  std::vector<std::pair<const Component*, OptionValues>> members;
  for (const ComponentUse& use : config.kernel_chain()) {
    if (use.name == options.without_kernels) continue;
    const Component& component = registry.find("kernels", use.name);
    members.emplace_back(&component, OptionValues(component, use.options));
  }
  if (members.empty()) throw Error(config.path(), "[kernels] use is empty", "try use = [\"generic\", \"reference\"]");
  chain_ = std::make_unique<KernelChain>(host_, members);

  if (communicator_ && !chain_->device().is_host())
    throw Error("[comm] use", "moves host memory, but the run computes on " + chain_->device().name(),
                "use a comm component of that device");
  strategies_ = std::make_unique<Strategies>(host_, registry, config, place.rank, place.size);

  const ComponentUse use = config.model();
  vocabulary_ = use.options.get_i64("vocabulary", 0);
  if (options.data) {
    feed_ = std::make_unique<Feed>(host_, registry, config, KM_SPLIT_TRAIN, vocabulary_);
    if (vocabulary_ == 0) vocabulary_ = feed_->vocabulary();
    if (feed_->vocabulary() > vocabulary_)
      throw use.options.error("vocabulary",
                              "the data has " + std::to_string(feed_->vocabulary()) +
                                  " tokens, the model's vocabulary only " + std::to_string(vocabulary_),
                              "make model.vocabulary at least " + std::to_string(feed_->vocabulary()));
  } else if (vocabulary_ == 0) {
    vocabulary_ = options.vocabulary;
  }
  const Component& component = registry.find("model", use.name);
  model_ = std::make_unique<Model>(host_, component, OptionValues(component, use.options));
}

std::unique_ptr<Graph> Engine::build(const km_model_shape& shape) const {
  std::unique_ptr<Graph> graph = model_->build(shape, *chain_);
  strategies_->rewrite_forward(*graph);
  return graph;
}

Links Engine::links(const Plan& plan) {
  Links links;
  links.communicator = communicator_;
  links.groups.resize(plan.groups.size());
  if (plan.groups.empty()) return links;
  KM_CHECK(communicator_, "a plan with messages needs ranks to send them to");
  // By name: ranks of several stages need other groups, but come to those that they share in one order.
  std::vector<size_t> order(plan.groups.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return plan.groups[a] < plan.groups[b]; });
  for (size_t i : order) links.groups[i] = communicator_->group(strategies_->group(plan.groups[i]));
  return links;
}

TrainingOptions Engine::training_options() const { return {bf16(), true, config_.optimizer().clip}; }

km_model_shape Engine::shape(uint32_t mode, int64_t batch, int64_t tokens, int64_t capacity) const {
  km_model_shape shape{};
  shape.struct_size = sizeof shape;
  shape.mode = mode;
  shape.batch = batch;
  shape.tokens = tokens == 0 ? config_.run().sequence : tokens;
  shape.capacity = capacity;
  shape.vocabulary = vocabulary_;
  shape.sequence = config_.run().sequence;
  shape.segments = mode == KM_MODE_TRAIN && feed_ && feed_->segments() ? 1 : 0;
  return shape;
}

std::unique_ptr<Optimizer> Engine::open_optimizer() {
  const ComponentUse use = config_.optimizer_component();
  const Component& component = registry_.find("optimizer", use.name);
  return std::make_unique<Optimizer>(host_, component, OptionValues(component, use.options));
}

void Engine::choose_fastest(std::map<std::string, std::string>* choices) {
  chain_->pick = [this, choices](const OpRequest& request, const std::vector<KernelChain::Choice>& able) -> size_t {
    const std::string problem = request.text();
    if (auto it = choices->find(problem); it != choices->end())
      for (size_t i = 0; i < able.size(); ++i)
        if (chain_->members()[able[i].member].name == it->second) return i;
    size_t best = 0;
    double best_seconds = 1e30;
    for (size_t i = 0; i < able.size(); ++i) {
      // The plain C of `reference` is never the fastest, and may take minutes to show it.
      if (chain_->members()[able[i].member].name == "reference" && able.size() > 1) continue;
      const double seconds = time_kernel(*chain_, request, able[i]);
      if (seconds < best_seconds) {
        best = i;
        best_seconds = seconds;
      }
    }
    (*choices)[problem] = chain_->members()[able[best].member].name;
    return best;
  };
}

} // namespace kumiki
