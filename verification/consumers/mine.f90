! Three ops, to be replaced by yours; with WRONG in the environment, each makes a known mistake.
module mine
  implicit none
  integer, parameter :: real64 = kind(1d0)
  type :: array
    character(100) :: name = ''
    real(real64), allocatable :: entries(:)
  end type
  type(array) :: kept(100)
contains
  subroutine keep(name, entries)
    character(*), intent(in) :: name
    real(real64), intent(in) :: entries(:)
    integer :: k
    do k = 1, size(kept)
      if (kept(k)%name == name .or. kept(k)%name == '') exit
    end do
    kept(k)%name = name
    kept(k)%entries = entries
  end subroutine

  function get(name) result(entries)
    character(*), intent(in) :: name
    real(real64), allocatable :: entries(:)
    integer :: k
    do k = 1, size(kept)
      if (kept(k)%name == name) exit
    end do
    entries = kept(k)%entries
  end function

  function one(name)
    character(*), intent(in) :: name
    real(real64) :: one, entries(1)
    entries = get(name)
    one = entries(1)
  end function

  function answer(op, leaf) result(entries)
    character(*), intent(in) :: op, leaf
    real(real64), allocatable :: entries(:)
    integer :: missing
    logical :: wrong
    call get_environment_variable('WRONG', status=missing)
    wrong = missing /= 1
    select case (op)
    case ('gae_rollout')
      entries = gae_rollout(wrong)
      if (leaf == 'value_targets') entries = entries + get('values')
    case ('clipped_objective')
      entries = [clipped_objective(wrong)]
    case ('kl_diagonal_gaussian')
      entries = kl_diagonal_gaussian(wrong)
    case default
      error stop 'there is no such op'
    end select
  end function

  function gae_rollout(wrong) result(advantages)  ! wrong: gae-done-late
    logical, intent(in) :: wrong
    real(real64), allocatable :: advantages(:), rewards(:), values(:), dones(:), alive(:), delta(:), later(:)
    real(real64) :: gamma, lambda
    integer :: E, T, i, flags
    E = nint(one('E'))
    T = nint(one('T'))
    rewards = get('rewards')
    values = [get('values'), get('last_values')]
    dones = get('dones')
    gamma = one('gamma')
    lambda = one('gae_lambda')
    advantages = rewards
    later = 0 * get('last_values')
    do i = (T - 1) * E, 0, -E  ! the row of a time step begins behind i
      flags = merge(i + E, i, wrong .and. i < (T - 1) * E)
      alive = 1 - dones(flags + 1:flags + E)
      delta = rewards(i + 1:i + E) + gamma * values(i + E + 1:i + 2 * E) * alive - values(i + 1:i + E)
      later = delta + gamma * lambda * alive * later
      advantages(i + 1:i + E) = later
    end do
  end function

  function clipped_objective(wrong) result(objective)  ! wrong: clip-min-before-adv
    logical, intent(in) :: wrong
    real(real64) :: objective, clip
    real(real64), allocatable :: r(:), c(:), A(:)
    clip = one('clip')
    A = get('advantages')
    r = exp(get('new_log_prob') - get('old_log_prob'))
    c = min(max(r, 1 - clip), 1 + clip)
    objective = sum(merge(min(r, c) * A, min(r * A, c * A), wrong)) / size(A)
  end function

  function kl_diagonal_gaussian(wrong) result(kl)  ! wrong: kl-reversed
    logical, intent(in) :: wrong
    character(4) :: p, q
    real(real64), allocatable :: kl(:), terms(:), m0(:), m1(:), s0(:), s1(:)
    p = merge('new_', 'old_', wrong)
    q = merge('old_', 'new_', wrong)
    m0 = get(p // 'mean')
    m1 = get(q // 'mean')
    s0 = get(p // 'log_std')
    s1 = get(q // 'log_std')
    terms = s1 - s0 + 0.5d0 * (exp(s0 - s1)**2 + ((m0 - m1) / exp(s1))**2 - 1)
    kl = sum(reshape(terms, [nint(one('A')), nint(one('B'))]), dim=1)
  end function
end module
