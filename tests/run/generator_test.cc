// Generation sees what training saw: the logits after n tokens by prefill, decode and key-value cache are those of one
// pass over the whole sequence.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>

#include "core/run/generator.h"
#include "core/run/initial.h"
#include "tests/run/rig.h"

using namespace kumiki;
using namespace kumiki::test;

TEST_CASE("logits with the cache are those of the whole pass") {
  ::setenv("KUMIKI_PLUGINS", "plugins", 0);
  constexpr int32_t kSequence = 72; // prefill takes chunks of 64
  for (const char* model : {"gpt dropout", "gpt untied", "llama"}) {
    for (const char* kernels : {"\"reference\"", "\"generic\", \"reference\""}) {
      const Config config = tiny(model, kernels, {"run.sequence=" + std::to_string(kSequence)});
      Registry registry(config);
      Engine engine(registry, config, {});
      std::unique_ptr<Graph> graph = engine.model().build(engine.shape(KM_MODE_TRAIN, 1), engine.chain());
      make_evaluation_graph(*graph, engine.chain(), engine.training_options());
      const Plan plan = make_plan(*graph, engine.chain(), {});
      Store store(engine.chain().device());
      store.add(plan);
      Generator generator(engine, store);
      store.finish();
      initialize_parameters(*graph, 1, store, engine.pool());
      stir(*graph, store, 0.15);
      Executor executor(plan, engine.chain(), store);
      Staging staging(plan, 1);

      BatchRows rows;
      engine.feed()->read(0, 1, rows);
      for (int32_t n : {1, 5, 63, 64, 65, 70, kSequence}) {
        // A copy: the evaluation below writes over the arena, not over the logits that were fetched.
        const std::vector<float> logits =
            generator.logits_after(std::vector<int32_t>(rows.tokens.begin(), rows.tokens.begin() + n));
        REQUIRE(logits.size() == 40);
        double top = -1e30, sum = 0;
        for (float l : logits) top = std::max(top, static_cast<double>(l));
        for (float l : logits) sum += std::exp(static_cast<double>(l) - top);
        std::copy(rows.tokens.begin(), rows.tokens.end(), staging.input("tokens", 0));
        for (int32_t target : {0, 7, 39}) {
          std::fill_n(staging.input("targets", 0), kSequence, -1);
          staging.input("targets", 0)[n - 1] = target;
          REQUIRE(executor.run(make_schedule(plan, 1), staging) == KM_OK);
          REQUIRE(executor.scalar("tokens") == 1.0f);
          CAPTURE(model, kernels, n, target);
          CHECK(top + std::log(sum) - static_cast<double>(logits[static_cast<size_t>(target)]) ==
                Approx(static_cast<double>(executor.scalar("loss"))).epsilon(1e-5).margin(2e-5));
        }
      }
    }
  }
}
