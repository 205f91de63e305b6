"""The simulated users' engine and its drift scenarios. Only worlds and runners may import it."""
