#include <map>
#include <string>
#include <vector>

using Array = std::vector<double>;  // the last index fastest
using Arrays = std::map<std::string, Array>;

Arrays answer(const std::string& op, const Arrays& input);
