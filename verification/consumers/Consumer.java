// javac Consumer.java && java Consumer EXPORT/2026.1 right|wrong      (reads the text form)
import java.nio.file.*;
import java.util.*;
import java.util.function.Function;

public class Consumer {
    static boolean wrong;

    // The implementation; if `wrong`, with a known mistake in each function.

    static Map<String, double[]> gaeRollout(Map<String, double[]> in) { // gae-done-late
        double[] rewards = in.get("rewards"), values = in.get("values"), dones = in.get("dones");
        double[] last = in.get("last_values");
        double gamma = in.get("gamma")[0], lambda = in.get("gae_lambda")[0];
        int E = last.length, N = rewards.length;
        double[] advantages = new double[N], targets = new double[N];
        for (int i = N - 1; i >= 0; i--) { // from the last row up; i + E is the next time step of the same environment
            boolean open = i + E >= N;
            double alive = 1 - dones[wrong && !open ? i + E : i];
            double next = open ? last[i + E - N] : values[i + E], later = open ? 0 : advantages[i + E];
            advantages[i] = rewards[i] + gamma * next * alive - values[i] + gamma * lambda * alive * later;
            targets[i] = advantages[i] + values[i];
        }
        return Map.of("advantages", advantages, "value_targets", targets);
    }

    static Map<String, double[]> clippedObjective(Map<String, double[]> in) { // clip-min-before-adv
        double[] old = in.get("old_log_prob"), now = in.get("new_log_prob"), A = in.get("advantages");
        double clip = in.get("clip")[0], sum = 0;
        for (int b = 0; b < A.length; b++) {
            double r = Math.exp(now[b] - old[b]), c = Math.min(Math.max(r, 1 - clip), 1 + clip);
            sum += wrong ? Math.min(r, c) * A[b] : Math.min(r * A[b], c * A[b]);
        }
        return Map.of("objective", new double[] {sum / A.length});
    }

    static Map<String, double[]> klDiagonalGaussian(Map<String, double[]> in) { // kl-reversed
        String p = wrong ? "new_" : "old_", q = wrong ? "old_" : "new_";
        double[] m0 = in.get(p + "mean"), s0 = in.get(p + "log_std");
        double[] m1 = in.get(q + "mean"), s1 = in.get(q + "log_std");
        double[] kl = new double[(int) in.get("B")[0]];
        for (int i = 0; i < m0.length; i++) {
            double scale = Math.exp(s0[i] - s1[i]), shift = (m0[i] - m1[i]) / Math.exp(s1[i]);
            kl[i * kl.length / m0.length] += s1[i] - s0[i] + 0.5 * (scale * scale + shift * shift - 1);
        }
        return Map.of("kl", kl);
    }

    // The judge.

    public static void main(String[] arguments) throws Exception {
        wrong = arguments[1].equals("wrong");
        Map<String, Function<Map<String, double[]>, Map<String, double[]>>> implementation = new LinkedHashMap<>();
        implementation.put("gae_rollout", Consumer::gaeRollout);
        implementation.put("clipped_objective", Consumer::clippedObjective);
        implementation.put("kl_diagonal_gaussian", Consumer::klDiagonalGaussian);
        int judged = 0, mismatches = 0;
        for (String op : implementation.keySet()) {
            double factor = 0, floor = 0, u = 0;
            String id = "";
            boolean stability = false;
            Map<String, Map<String, double[]>> table = new HashMap<>(); // keyword → name → entries
            for (String line : Files.readAllLines(Path.of(arguments[0], op + ".txt"))) {
                String[] words = line.split(" ");
                switch (words[0]) {
                    case "tolerance" -> { factor = Double.parseDouble(words[1]); floor = Double.parseDouble(words[2]); }
                    case "roundoff" -> { if (words[1].equals("float64")) u = Double.parseDouble(words[2]); }
                    case "case" -> { id = words[1]; stability = words[3].equals("1"); table.clear(); }
                    case "dim", "input", "value", "R", "largest" -> {
                        int skip = 4 + Integer.parseInt(words[3]);
                        double[] entries = Arrays.stream(words).skip(skip).mapToDouble(Double::parseDouble).toArray();
                        String keyword = words[0].equals("dim") ? "input" : words[0]; // the first stays: the defaults
                        table.computeIfAbsent(keyword, key -> new TreeMap<>()).putIfAbsent(words[1], entries);
                    }
                    case "end" -> {
                        if (stability) { System.out.println("NOT ASKED  " + id); continue; }
                        Map<String, double[]> answers = implementation.get(op).apply(table.get("input"));
                        double worst = 0; // Math.max keeps NaN
                        for (String leaf : table.get("value").keySet()) {
                            double[] value = table.get("value").get(leaf), R = table.get("R").get(leaf);
                            double least = floor * table.get("largest").get(leaf)[0];
                            for (int i = 0; i < value.length; i++) {
                                double tolerance = factor * u * Math.max(R[i], least) + Math.ulp(value[i]) / 2;
                                worst = Math.max(worst, Math.abs(answers.get(leaf)[i] - value[i]) / tolerance);
                            }
                        }
                        String verdict = worst <= 1 ? "CONFORMS " : "WRONG    ";
                        System.out.printf(Locale.ROOT, "%s  %s  %.1e x tolerance%n", verdict, id, worst);
                        judged++;
                        mismatches += worst <= 1 ? 0 : 1;
                    }
                    default -> { }
                }
            }
        }
        System.out.println(judged + " judged, " + mismatches + " wrong");
        System.exit(judged == 0 ? 4 : Math.min(mismatches, 1));
    }
}
