#include "core/plan/strategies.h"

#include <algorithm>
#include <sstream>

#include "core/base/error.h"

namespace kumiki {
namespace {

struct Wanted {
  const Component* component = nullptr;
  ComponentUse use;
  int64_t degree = 0; // 0: what remains
  km_parallel_strategy table{};
};

bool has_axis(const Wanted& wanted) { return !(wanted.table.flags & KM_PARALLEL_ALONE); }

// Fills in the degree that was left out, and adds the data axis that covers the rest.
void settle_degrees(std::vector<Wanted>& all, int64_t ranks, const Config& config, Registry& registry) {
  int64_t product = 1;
  Wanted* open = nullptr;
  for (Wanted& wanted : all) {
    if (!has_axis(wanted)) continue;
    if (wanted.degree > 0) {
      product *= wanted.degree;
    } else if (open) {
      throw wanted.use.options.error("use", "neither " + open->use.name + " nor " + wanted.use.name + " has a degree",
                                     "only one may be left to take what remains of the ranks");
    } else {
      open = &wanted;
    }
  }
  const auto degrees = [&] {
    std::string text;
    for (const Wanted& wanted : all)
      if (has_axis(wanted) && wanted.degree > 0)
        text += (text.empty() ? "" : " x ") + wanted.use.name + " " + std::to_string(wanted.degree);
    return text;
  };
  if (ranks % product != 0 || (!open && ranks != product && [&] {
        for (const Wanted& wanted : all)
          if (wanted.use.name == "data" && has_axis(wanted)) return true;
        return false;
      }()))
    throw Error(config.path(),
                "[[parallel]] " + degrees() + " is " + std::to_string(product) + " ranks, but the run has " +
                    std::to_string(ranks),
                "start as many ranks as the degrees multiply to (or a multiple, with data left out)");
  if (open) {
    open->degree = ranks / product;
  } else if (product < ranks) {
    Wanted data;
    data.use = {"parallel", "data", Table("parallel.data"), {}};
    data.component = &registry.find("parallel", "data");
    data.table = table_of<km_parallel_strategy>(*data.component, "parallel", KM_PARALLEL_VERSION);
    data.degree = ranks / product;
    all.push_back(std::move(data));
  }
}

} // namespace

Strategies::Strategies(Host& host, Registry& registry, const Config& config, int64_t rank, int64_t ranks)
    : host_(host), rank_(rank), ranks_(ranks) {
  std::vector<Wanted> all;
  for (const ComponentUse& use : config.parallel()) {
    Wanted wanted;
    wanted.use = use;
    wanted.component = &registry.find(use);
    wanted.degree = use.options.get_i64("degree", 0);
    wanted.table = table_of<km_parallel_strategy>(*wanted.component, "parallel", KM_PARALLEL_VERSION);
    for (const Wanted& other : all)
      if (other.use.name == use.name)
        throw use.options.error("use", "[[parallel]] names " + use.name + " twice", "keep one of them");
    all.push_back(std::move(wanted));
  }
  settle_degrees(all, ranks, config, registry);

  int64_t stride = 1;
  for (Wanted& wanted : all) {
    auto s = std::make_unique<Strategy>();
    s->title = wanted.component->title();
    s->name = wanted.use.name;
    s->table = wanted.table;
    s->axis.struct_size = sizeof s->axis;
    s->axis.degree = 1;
    s->axis.name = s->name.c_str();
    const bool spread = has_axis(wanted) && wanted.degree > 1;
    if (spread) {
      const int64_t coordinate = rank / stride % wanted.degree;
      s->axis.degree = static_cast<uint32_t>(wanted.degree);
      s->axis.coordinate = static_cast<uint32_t>(coordinate);
      s->axis.index = static_cast<uint32_t>(axes_.size());
      if (wanted.table.flags & KM_PARALLEL_BATCH) {
        batch_axes_.push_back(axes_.size());
        batch_index_ += coordinate * batch_degree_;
        batch_degree_ *= wanted.degree;
      }
      if (wanted.table.flags & KM_PARALLEL_TOKENS) {
        if (token_share_.degree > 1)
          throw wanted.use.options.error(
              "use", wanted.use.name + " divides the tokens, as another of [[parallel]] does", "keep one of them");
        token_share_ = {wanted.degree, coordinate};
      }
      if (wanted.table.flags & KM_PARALLEL_STAGES) {
        pipeline_axis_ = static_cast<int32_t>(axes_.size());
        pipeline_ = s.get();
      }
      axes_.push_back({s->name, wanted.degree, coordinate, wanted.table.level});
      stride *= wanted.degree;
    }
    if (!spread && !(wanted.table.flags & KM_PARALLEL_ALONE)) continue;
    const OptionValues options(*wanted.component, wanted.use.options);
    check(s->table.open(host.abi(), options.get(), &s->self), s->title, "open");
    strategies_.push_back(std::move(s));
  }
  std::stable_sort(strategies_.begin(), strategies_.end(),
                   [](const auto& a, const auto& b) { return a->table.level < b->table.level; });
}

Strategies::~Strategies() {
  for (auto& s : strategies_) s->table.close(s->self);
}

std::string Strategies::text() const {
  std::string text;
  for (const Axis& axis : axes_) text += (text.empty() ? "" : " x ") + axis.name + " " + std::to_string(axis.degree);
  return text;
}

void Strategies::call(Graph& graph,
                      km_status (*km_parallel_strategy::*function)(void*, km_graph*, const km_axis*)) const {
  for (const auto& s : strategies_) {
    if (!(s->table.*function)) continue;
    graph.cursor = {};
    graph.cursor.origin = s->title;
    const km_status status = (s->table.*function)(s->self, to_abi(&graph), &s->axis);
    if (const std::string text = take_service_error(); !text.empty()) {
      Host::take_error();
      throw Error(s->title, text);
    }
    check(status, s->title, "rewrite");
    graph.cursor = {};
    try {
      graph.infer_all();
    } catch (const Error& error) {
      throw Error(s->title, std::string("after its rewrite: ") + error.what());
    }
  }
}

void Strategies::rewrite_forward(Graph& graph) const {
  graph.set_axes(axes_);
  for (const char* name : {"tokens", "targets", "segments"}) {
    const ValueId input = graph.find(name);
    if (input == 0 || graph.value(input).kind != ValueKind::kInput) continue;
    // Each rank's rows are its own, in training and evaluation; the shape is that of one rank's micro-batch already. What is
    // generated is the same on all ranks.
    if (graph.mode() != KM_MODE_TRAIN) continue;
    graph.value(input).placements.resize(axes_.size());
    for (const size_t axis : batch_axes_) graph.value(input).placements[axis] = {Spread::kSharded, 0};
  }
  if (!axes_.empty()) graph.infer_all();
  call(graph, &km_parallel_strategy::rewrite_forward);
  if (graph.mode() == KM_MODE_TRAIN) check_inputs(graph);
}

// What a strategy did to the inputs is what it says of itself: by that a batch is cut for this rank.
void Strategies::check_inputs(const Graph& graph) const {
  for (const ValueId id : graph.values()) {
    const Value& input = graph.value(id);
    if (input.kind != ValueKind::kInput || graph.reads(id) == 0) continue;
    for (const auto& s : strategies_) {
      if (s->axis.degree == 1) continue;
      const bool divided = graph.placement(id, graph.mesh_axes(s->axis.index)[0]) == Placement{Spread::kSharded, 1};
      if (divided == ((s->table.flags & KM_PARALLEL_TOKENS) != 0)) continue;
      throw Error(s->title, "input " + input.name + (divided ? " is" : " is not") +
                                " divided by tokens along its axis, but " + (divided ? "it does not say" : "it says") +
                                " that it does so (KM_PARALLEL_TOKENS)");
    }
  }
}

void Strategies::rewrite_training(Graph& graph) const { call(graph, &km_parallel_strategy::rewrite_training); }

std::vector<PartEntry> Strategies::schedule(int32_t stages, int32_t micro_batches, bool training,
                                            int64_t coordinate) const {
  std::vector<PartEntry> entries;
  if (!pipeline_) {
    for (int32_t m = 0; m < micro_batches; ++m) {
      entries.push_back({Part::kForward, 0, m});
      if (training) entries.push_back({Part::kBackward, 0, m});
    }
    return entries;
  }
  km_schedule view{};
  view.struct_size = sizeof view;
  view.stages = static_cast<uint32_t>(stages);
  view.degree = pipeline_->axis.degree;
  view.coordinate = static_cast<uint32_t>(coordinate);
  view.micro_batches = static_cast<uint32_t>(micro_batches);
  view.training = training ? 1 : 0;
  view.sink = &entries;
  view.emit = [](const km_schedule* schedule, uint32_t part, uint32_t stage, uint32_t micro) {
    static_cast<std::vector<PartEntry>*>(schedule->sink)
        ->push_back({static_cast<Part>(part), static_cast<int32_t>(stage), static_cast<int32_t>(micro)});
  };
  check(pipeline_->table.schedule(pipeline_->self, &view), pipeline_->title, "schedule");
  bool side_by_side = true;
  for (size_t i = 0; i < entries.size(); ++i) {
    const PartEntry& e = entries[i];
    if (e.part != Part::kWeight) continue;
    const bool behind = i > 0 && entries[i - 1].part == Part::kBackward && entries[i - 1].stage == e.stage &&
                        entries[i - 1].micro == e.micro;
    side_by_side = side_by_side && behind;
  }
  if (side_by_side) std::erase_if(entries, [](const PartEntry& e) { return e.part == Part::kWeight; });
  return entries;
}

std::vector<uint32_t> Strategies::group(const std::string& axes) const {
  // Each name of the list: the axis, which of its coordinates take part, and where this rank's own stands among them.
  // Half of a split axis, "tensor/2" or "tensor%2", says by itself how: blocks of 2, or the ranks of a block.
  struct Part {
    size_t axis;
    std::vector<int64_t> coordinates;
    int64_t own;
  };
  std::vector<Part> parts;
  std::string text = axes;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    for (int depth = 0; end < text.size() && (text[end] != ',' || depth > 0); ++end)
      depth += text[end] == '{' ? 1 : text[end] == '}' ? -1 : 0;
    std::string name = text.substr(at, end - at);
    at = end + 1;
    Part part{};
    std::string chosen;
    if (const size_t brace = name.find('{'); brace != std::string::npos) {
      chosen = name.substr(brace + 1, name.size() - brace - 2);
      name = name.substr(0, brace);
    }
    const size_t half = name.find_first_of("/%");
    const int64_t block = half == std::string::npos ? 1 : std::stoll(name.substr(half + 1));
    const bool within = half != std::string::npos && name[half] == '%';
    name = name.substr(0, half);
    while (part.axis < axes_.size() && axes_[part.axis].name != name) ++part.axis;
    KM_CHECK(part.axis < axes_.size(), "an axis named " + name);
    const Axis& axis = axes_[part.axis];
    part.own = within ? axis.coordinate % block : axis.coordinate / block * block;
    if (chosen.empty()) {
      for (int64_t c = 0; c < (within ? block : axis.degree); c += within ? 1 : block) part.coordinates.push_back(c);
    } else {
      std::istringstream in(chosen);
      for (std::string c; std::getline(in, c, ',');) part.coordinates.push_back(std::stoll(c));
    }
    parts.push_back(std::move(part));
  }
  std::vector<int64_t> strides;
  int64_t stride = 1;
  for (const Axis& axis : axes_) {
    strides.push_back(stride);
    stride *= axis.degree;
  }
  int64_t base = rank_;
  for (const Part& part : parts) base -= part.own * strides[part.axis];
  std::vector<uint32_t> ranks = {static_cast<uint32_t>(base)};
  for (const Part& part : parts) {
    std::vector<uint32_t> more;
    for (const uint32_t r : ranks)
      for (const int64_t c : part.coordinates) more.push_back(r + static_cast<uint32_t>(c * strides[part.axis]));
    ranks = std::move(more);
  }
  return ranks;
}

} // namespace kumiki
